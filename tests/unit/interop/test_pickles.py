"""Nothing in a pickle is run: what is data is read, and everything else is refused by name."""

import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from bigtrain.interop import pickles
from bigtrain.interop.errors import InteropError
from bigtrain.interop.pickles import PickledObject, read_pickle
from tests.unit.interop.nvidia_pickles import EasyDict, Persistent, dumps, evil, storage_with


def read(folder: Path, content: object, protocol: int = 4) -> object:
    file = folder / "network.pkl"
    file.write_bytes(content if isinstance(content, bytes) else dumps(content, protocol))
    return read_pickle(file)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_data_comes_through(tmp_path: Path, protocol: int) -> None:
    whole = torch.randn(4, 3)
    content = {
        "view": whole[1:, 1:],
        "parameter": torch.nn.Parameter(whole),
        "half": whole.half(),
        "scalar": torch.tensor(2.0),
        "array": np.arange(6.0).reshape(2, 3).T,
        "number": np.float64(3.5),
        "kwargs": EasyDict(z_dim=512, nested=EasyDict(clamp=None)),
        "text": ("a", b"b", {1, 2}, True, 1.5),
    }
    found = read(tmp_path, content, protocol)
    for name in ("view", "parameter", "half", "scalar"):
        assert torch.equal(found[name].value, content[name]), name
    assert np.array_equal(found["array"].content, content["array"])
    assert found["number"] == 3.5
    assert found["kwargs"] == content["kwargs"]
    assert found["text"] == content["text"]


def test_a_network_is_its_attributes_and_its_source_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    source = f"open({str(marker)!r}, 'w')"
    found = read(tmp_path, {"G": Persistent("Generator", {"z_dim": 4}, source)})["G"]
    assert found == PickledObject("Generator", {"z_dim": 4})
    assert not marker.exists()


def attacks(marker: Path) -> dict[str, tuple[object, str]]:
    command = f"touch {marker}"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    system = evil("os", "system", command)
    forged = b"cos\nsystem\n(S'" + command.encode() + b"'\ntR."
    return {
        "os.system": (system, "system"),
        "builtins.eval": (evil("builtins", "eval", code), "builtins.eval"),
        "builtins.exec": (evil("builtins", "exec", code), "builtins.exec"),
        "builtins.getattr": (evil("builtins", "getattr", 1, "real"), "builtins.getattr"),
        "subprocess.Popen": (evil("subprocess", "Popen", ["touch", str(marker)]), "subprocess.Popen"),
        "importlib": (evil("importlib", "import_module", "antigravity"), "importlib.import_module"),
        "torch.load": (evil("torch", "load", str(marker)), "torch.*load"),
        "nested in a list": ([1, {"a": (system,)}], "system"),
        "as an argument of an allowed call": (Persistent("G", {"_parameters": {"w": system}}), "system"),
        "as the description": (evil("collections", "OrderedDict", [("a", system)]), "system"),
        "in a storage": (storage_with({"a": system}), "system"),
        "eval in a storage": (storage_with(evil("builtins", "eval", code)), "eval"),
        "by hand": (forged, "os.system"),
        "by a dotted name": (b"\x80\x04\x8c\x0bcollections\x8c\x20OrderedDict.__init__.__globals__\x93.", "globals"),
        "a class of a known module": (b"ctorch.storage\nUntypedStorage\n.", "UntypedStorage"),
        "an extension code": (b"\x80\x02\x82\x01.", "extension"),
        "a persistent id": (b"Pos.system\n.", "persistent"),
    }


@pytest.mark.parametrize("attack", attacks(Path("x")))
def test_code_is_refused_by_name(tmp_path: Path, attack: str) -> None:
    marker = tmp_path / "ran"
    content, words = attacks(marker)[attack]
    with pytest.raises(InteropError, match=words) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "network.pkl") in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("dnnlib.tflib.network", "it is a pickle of TensorFlow: convert it with legacy.py"),
        ("timm.models.vision_transformer", "it is of StyleGAN-XL"),
    ],
)
def test_others_pickles_are_known(tmp_path: Path, module: str, words: str) -> None:
    with pytest.raises(InteropError, match=words) as caught:
        read(tmp_path, f"c{module}\nNetwork\n.".encode())
    assert "\n" not in str(caught.value)


def test_the_attacks_are_attacks(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for attack in ("os.system", "builtins.exec", "in a storage", "by hand"):
        content, _ = attacks(marker)[attack]
        pickle.loads(content if isinstance(content, bytes) else dumps(content))
        assert marker.exists(), attack
        marker.unlink()


@pytest.mark.parametrize(
    "target", ["ctorch._utils\n_rebuild_tensor_v2\n", "cdnnlib.util\nEasyDict\n", "ccollections\nOrderedDict\n"]
)
def test_what_may_be_called_may_not_be_changed(tmp_path: Path, target: str) -> None:
    harmful = target.encode() + b"(dS'__defaults__'\nI1\nsb."
    with pytest.raises(InteropError):
        read(tmp_path, harmful)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a pickle of networks"),
        (b"hello", "not a pickle of networks"),
        (dumps({"a": torch.ones(100)})[:-40], "not a pickle of networks"),
        (dumps(np.array([{}, []], dtype=object)), "dtype 'O8'"),
        (b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n((dtR.", "not described"),
        (b"(" * 50 + b".", "not a pickle of networks"),
    ],
)
def test_damage_is_one_clear_line(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(InteropError, match=words) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_a_tensor_must_be_there_whole(tmp_path: Path) -> None:
    def huge() -> object:
        class Huge:
            def __reduce__(self):
                storage = torch.zeros(2).storage()
                return torch._utils._rebuild_tensor_v2, (storage, 0, (10**9,), (0,), False, {})

        return Huge()

    with pytest.raises(InteropError, match="of which 2 are there"), pytest.warns(UserWarning, match="TypedStorage"):
        read(tmp_path, huge())
    with pytest.raises(InteropError, match="no such file|cannot be read"):
        read_pickle(tmp_path / "none.pkl")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x80\x02Nr" + (2**30).to_bytes(4, "little") + b".", "place 1073741824 of its memo, after 2 operations"),
        (b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"x.", "not a pickle of networks"),
        (b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b"N.", "not a pickle of networks"),
    ],
    ids=["memo", "bytes", "frame"],
)
def test_a_few_bytes_take_no_gigabytes(tmp_path: Path, content: bytes, words: str) -> None:
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, limits[1]))
    try:
        with pytest.raises(InteropError, match=words):
            read(tmp_path, content)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_copies_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call is ten bytes, and returns a copy of a list of a thousand numbers that was built once."""
    monkeypatch.setattr(pickles, "_SPARE", 0)
    numbers = b"(" + b"K\x01" * 1000 + b"lq\x00"
    call = b"ctorch\nSize\nq\x01" + b"h\x01h\x00\x85R" * 1000
    with pytest.raises(InteropError, match="its calls return many times the size of the file"):
        read(tmp_path, b"\x80\x02" + numbers + b"0" + call + b".")

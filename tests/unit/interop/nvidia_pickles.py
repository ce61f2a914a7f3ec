"""A writer of pickles in the form of the published ones, made from their description, not from a real file.

Each module is an object that pickles as `torch_utils.persistence._reconstruct_persistent_obj(EasyDict(type, version,
module_src, class_name, state))`, its state being a torch module's attributes.

    python -m tests.unit.interop.nvidia_pickles faces.pkl     # a small StyleGAN2 with random weights
"""

import contextlib
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bigtrain.models import ImageSpec
from bigtrain.models.stylegan2 import StyleGAN2DiscriminatorConfig, StyleGAN2GeneratorConfig
from bigtrain.ops.upfirdn import fir_filter


class EasyDict(dict):
    pass


def _reconstruct_persistent_obj(meta):
    raise AssertionError("the reader must not come here")


EasyDict.__module__, EasyDict.__qualname__ = "dnnlib.util", "EasyDict"
_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class Persistent:
    def __init__(self, class_name: str, state: dict[str, Any], module_src: str = "") -> None:
        self.description = EasyDict(
            type="class", version=6, module_src=module_src, class_name=class_name, state=EasyDict(state)
        )

    def __reduce__(self):
        return _reconstruct_persistent_obj, (self.description,)


@contextlib.contextmanager
def published_modules() -> Iterator[None]:
    """Let pickle find the two names while it writes."""
    modules = {
        name: types.ModuleType(name) for name in ("dnnlib", "dnnlib.util", "torch_utils", "torch_utils.persistence")
    }
    modules["dnnlib.util"].EasyDict = EasyDict
    modules["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


def dumps(content: object, protocol: int = 4) -> bytes:
    with published_modules():
        return pickle.dumps(content, protocol=protocol)


def tree(
    tensors: dict[str, Tensor], attributes: dict[str, dict[str, Any]], path: str = "", src: str = ""
) -> Persistent:
    """Make a module of tensors by dotted names, with attributes of the modules by their paths."""
    inner: dict[str, dict[str, Tensor]] = {}
    own: dict[str, Tensor] = {}
    for name, value in tensors.items():
        first, _, rest = name.partition(".")
        if rest:
            inner.setdefault(first, {})[rest] = value
        else:
            own[first] = value
    children = {
        key.removeprefix(f"{path}.").partition(".")[0]
        for key in attributes
        if key and (not path or key.startswith(f"{path}."))
    }
    for name in children - inner.keys():
        inner[name] = {}
    state = {
        "training": False,
        "_parameters": OrderedDict((k, v) for k, v in own.items() if isinstance(v, nn.Parameter)),
        "_buffers": OrderedDict((k, v) for k, v in own.items() if not isinstance(v, nn.Parameter)),
        "_non_persistent_buffers_set": set(),
        "_backward_hooks": OrderedDict(),
        "_modules": OrderedDict(
            (name, tree(values, attributes, f"{path}.{name}".lstrip("."), src)) for name, values in inner.items()
        ),
        "_init_args": (),
        **attributes.get(path, {}),
    }
    return Persistent("Module", state, src)


def stylegan2(network: nn.Module, attributes: dict[str, dict[str, Any]], src: str = "") -> Persistent:
    """Make the published form of one of our StyleGAN2 networks."""
    tensors = {**network.state_dict(), **dict(network.named_parameters())}
    if "w_avg" in tensors:
        tensors["mapping.w_avg"] = tensors.pop("w_avg")
    convolutions = [name.removesuffix("weight") for name, value in tensors.items() if value.ndim == 4]
    blocks = {name.partition(".conv")[0] + "." for name in convolutions if ".conv" in name}
    for name in {*convolutions, *blocks}:
        tensors[f"{name}resample_filter"] = fir_filter((1, 3, 3, 1))
    return tree(tensors, attributes, src=src)


def evil(module: str, name: str, *arguments: object) -> object:
    """Return an object whose pickle calls `module.name(*arguments)`."""
    __import__(module)
    function = getattr(sys.modules[module], name)

    class Evil:
        def __reduce__(self):
            return function, arguments

    return Evil()


def storage_with(content: object) -> object:
    """Return an object whose pickle reads a tensor's storage from an archive of `content`."""
    import io

    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=False)

    class Storage:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (stream.getvalue(),)

    return Storage()


def write_published_file(path: Path) -> None:
    """Write a StyleGAN2 of 32x32 images with random weights as its authors publish theirs."""
    torch.manual_seed(0)
    image, widths = ImageSpec(32, 3), {"channel_base": 256, "channel_max": 16}
    G = StyleGAN2GeneratorConfig(z_dim=8, w_dim=12, mapping_layers=2, conv_clamp=256.0, **widths).build(image)
    D = StyleGAN2DiscriminatorConfig(mbstd_group=2, conv_clamp=256.0, **widths).build(image)
    content = {
        "G_ema": stylegan2(G, {"synthesis.b8.conv1": {"conv_clamp": 256}}),
        "D": stylegan2(D, {"b4.mbstd": {"group_size": 2}, "b32.conv0": {"conv_clamp": 256}}),
    }
    path.write_bytes(dumps(content))


if __name__ == "__main__":
    write_published_file(Path(sys.argv[1]))

"""Tars that nobody has indexed: every sample comes, ranks stay equal, and faults of servers and files are told."""

import io
import json
import tarfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_pipelines.errors import DataError
from data_pipelines.faults import FaultLog
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.read import DamageError, ShardDataset
from data_pipelines.remote import RetryPolicy
from data_pipelines.tar_samples import TarReader
from data_pipelines.tar_set import TarPlan
from data_pipelines.tar_stream import TarStream
from data_pipelines.tar_urls import find_tars
from tests.unit.data_pipelines.faulty_server import serve

SPECS = {
    "image": FieldSpec("image", (3, 8, 8), "uint8"),
    "class": FieldSpec("class", (), "int64", tuple(map(str, range(40)))),
    "text": FieldSpec("text", (8,), "uint8"),
    "latent": FieldSpec("array", (2,), "float32"),
}
QUICK = RetryPolicy(patience_s=5.0, first_wait_s=0.01, longest_wait_s=0.02, stall_s=0.3)


def members(number: int) -> dict[str, bytes]:
    """A sample: its number is its class, and the grey of its image."""
    picture, latent = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (10, 12), (number, number, number)).save(picture, ("PNG", "JPEG", "WEBP")[number % 3], quality=95)
    np.save(latent, np.full(2, number, np.float32))
    label = {"cls": str(number).encode()} if number % 2 else {"json": json.dumps({"label": number}).encode()}
    suffix = ("png", "jpg", "webp")[number % 3]
    return {suffix: picture.getvalue(), "txt": f"number {number}".encode(), "latent.npy": latent.getvalue(), **label}


def write_tar(path: Path, numbers: range) -> None:
    with tarfile.open(path, "w") as tar:
        for number in numbers:
            for suffix, content in members(number).items():
                entry = tarfile.TarInfo(f"{number:04d}.{suffix}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """40 samples in 4 tars of 10."""
    (tmp_path / "tars").mkdir()
    for tar in range(4):
        write_tar(tmp_path / "tars" / f"{tar:06d}.tar", range(10 * tar, 10 * tar + 10))
    return tmp_path / "tars"


def plan_of(tars: Path | str, **options: Any) -> TarPlan:
    usual = TarPlan(
        place="tars", seed=3, global_batch=4, urls=(f"{tars}/{{000000..000003}}.tar",), specs=SPECS, head=5, shuffle=10
    )
    return replace(usual, fields=tuple(SPECS), **options)


def take(stream: TarStream, batches: int) -> list[int]:
    found = [int(label) for _ in range(batches) for label in next(stream).fields["class"]]
    stream.close()
    return found


def reader(faults: FaultLog) -> TarReader:
    return TarReader(SPECS, "center", False, QUICK, faults)


def test_every_sample_comes_once_an_epoch_with_all_its_fields(tars: Path) -> None:
    stream = TarStream(plan_of(tars))
    batch = next(stream)
    for image, label, text, latent in zip(*(batch.fields[name] for name in SPECS), strict=True):
        assert abs(int(image.mean()) - label) <= 2
        assert bytes(text) == f"number {label}".encode()[:8].ljust(8, b"\0")
        assert latent.tolist() == [label, label]
    assert batch.positions.tolist() == [0, 1, 2, 3]
    rest = take(stream, 29)
    first = Counter([*batch.fields["class"].tolist(), *rest][:40])
    assert len(first) > 30  # the buffer mixes the end of an epoch with the next one
    assert Counter([*batch.fields["class"].tolist(), *rest]).keys() == set(range(40))


def test_the_order_follows_from_the_seed(tars: Path) -> None:
    one, again, other = (take(TarStream(plan_of(tars, seed=seed), workers=2), 8) for seed in (1, 1, 2))
    assert one == again != other


def test_more_readers_than_tars_never_run_dry(tars: Path) -> None:
    # Long enough for each reader to come to its tar's end, whichever of a rank's two is the faster one.
    ranks = [take(TarStream(plan_of(tars, rank=rank, world_size=4), workers=2), 160) for rank in range(4)]
    assert {len(rank) for rank in ranks} == {160}
    shares = Counter(number for rank in ranks for number in rank)
    assert shares.keys() == set(range(40))


def test_held_out_samples_are_the_heads_last_and_never_come(tars: Path) -> None:
    plan = plan_of(tars, held_out=0.4)
    stream = TarStream(plan)
    assert stream.dataset.manifest.count == 5
    assert not {3, 4} & set(take(stream, 60))


def test_reading_goes_on_at_the_start_of_a_tar(tars: Path, tmp_path: Path) -> None:
    plan, quarantine = plan_of(tars, shuffle=1), tmp_path / "quarantine.jsonl"
    stream = TarStream(plan, quarantine=quarantine)
    before = take(stream, 10)  # an epoch: 4 tars of 10
    stream.seek(24)
    resumed = take(stream, 4)
    assert resumed[:10] == before[20:30]  # position 24 lies in the third tar
    halves = [TarStream(replace(plan, rank=rank, world_size=2), quarantine=quarantine) for rank in range(2)]
    for half in halves:
        half.seek(24)
    assert take(halves[0], 4)[0] // 10 != take(halves[1], 4)[0] // 10


@pytest.mark.parametrize("misdeed", ["503", "stall", "reset", "truncate"])
def test_what_a_server_breaks_off_is_asked_for_again(tars: Path, misdeed: str) -> None:
    faults = FaultLog()
    with serve(tars) as server:
        server.misdeeds["000001.tar"] = [misdeed]
        found = [sample["__key__"] for sample in reader(faults).samples(f"{server.url}/000001.tar")]
    assert found == [f"{number:04d}" for number in range(10, 20)]
    assert faults.retries == 1


def test_damage_is_told_and_the_rest_comes(tars: Path) -> None:
    whole = (tars / "000001.tar").read_bytes()
    (tars / "000001.tar").write_bytes(whole[: len(whole) // 2 // 512 * 512])
    (tars / "000002.tar").unlink()
    stream = TarStream(plan_of(tars, on_corrupt="replace"))
    found = set(take(stream, 40))
    assert {*range(10), *range(30, 40)} < found
    assert not set(range(20, 30)) & found
    problems = {Path(fault.file).name: fault.problem for fault in stream.faults.quarantined}
    assert "ends too early" in problems["000001.tar"]
    assert "No such file" in problems["000002.tar"]
    with pytest.raises(DamageError, match="ends too early|No such file"):
        take(TarStream(plan_of(tars, on_corrupt="fail")), 40)


def test_nothing_usable_is_one_line(tars: Path) -> None:
    few = {**SPECS, "class": FieldSpec("class", (), "int64", ("0",))}
    with pytest.raises(DataError, match=r"none of the first .*class 1\d is not below the number of classes, 1"):
        (tars / "000000.tar").unlink()
        TarStream(plan_of(tars, specs={"class": few["class"], "image": few["image"]}, head=2))
    with pytest.raises(DataError, match="no field 'sketch', its fields are image, latent, text"):
        TarStream(plan_of(tars, specs={"sketch": SPECS["image"]}))


def test_lists_of_tars(tars: Path) -> None:
    listed = tars / "all.txt"
    listed.write_text("# mine\n{000000..000001}.tar\nhttps://there/{a,b}.tar\n")
    found = find_tars((str(listed), str(tars)), QUICK, FaultLog())
    expected = [f"{tars}/000000.tar", f"{tars}/000001.tar", "https://there/a.tar", "https://there/b.tar"]
    assert list(found) == [*expected, *(f"{tars}/{number:06d}.tar" for number in range(4))]
    listed.write_text("pipe:cat /etc/passwd\n")
    with pytest.raises(DataError, match=r"all.txt: line 1: 'pipe:cat /etc/passwd' would run a command"):
        find_tars((str(listed),), QUICK, FaultLog())
    with serve(tars) as server, pytest.raises(DataError, match="is a local file"):
        listed.write_text("/etc/passwd\n")
        find_tars((f"{server.url}/all.txt",), QUICK, FaultLog())
    with pytest.raises(DataError, match="its braces do not match"):
        find_tars(("a{1..2.tar",), QUICK, FaultLog())


def test_an_exact_set_is_made_meanwhile(tars: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serve(tars) as server:
        urls = (f"{server.url}/{{000000..000003}}.tar",)
        specs = {"image": SPECS["image"], "class": SPECS["class"]}
        plan = replace(plan_of(tars, specs=specs), urls=urls, index=str(tmp_path / "exact"), fit="none")
        stream = TarStream(plan)
        assert len([next(stream) for _ in range(20)]) == 20
        deadline = time.monotonic() + 120
        while not (tmp_path / "exact" / "manifest.json").is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        stream.close()
        assert ShardDataset(tmp_path / "exact").manifest.count == 40, (tmp_path / "exact.log").read_text()
        TarStream(plan).close()
    assert "trains from it, exactly" in caplog.text

"""Manifests of 100,000 shards, with no classes, 1,000 and 20,000: their time, their memory, a window by class."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.class_counts import ENTRY, ClassCounts
from data_pipelines.errors import DataError
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.manifest import FORMAT, FORMAT_5, Manifest, format_for
from data_pipelines.shard_table import COUNTS, NAMES, ROW, TABLE, ShardTable

SHARDS, SAMPLES = 100_000, 1000

PROGRAM = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
from data_pipelines.manifest import Manifest
from data_pipelines.order import SampleOrder
from data_pipelines.sampling import ByClass

def private():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) * 1024

before, start = private(), time.process_time()
manifest = Manifest.load(Path(sys.argv[1]))
found = {"load_s": time.process_time() - start, "bytes": private() - before}
if manifest.classes:
    labels = lambda number: np.repeat(*manifest.class_counts.of(number)).astype(np.int32)
    rows, weights = [range(int(n)) for n in manifest.counts], [1.0] * len(manifest.classes)
    turns = ByClass(rows, labels, manifest.class_counts, weights, 1)
    order = SampleOrder(manifest.counts.tolist(), 1, 8, turns)
    start = time.process_time()
    order.locate(0)
    found["epoch_s"] = time.process_time() - start
    times = []
    for position in range(order.size // 3, order.size, order.size // 5):
        start = time.process_time()
        order.locate(position)
        times.append(time.process_time() - start)
    found["window_s"] = max(times)
    found["bytes"] = private() - before
print(json.dumps(found))
"""


def large(folder: Path, classes: int, shards: int = SHARDS, present: int = SAMPLES) -> Manifest:
    """Write the manifest of a set that is not there: shards of 1,000 samples of `present` different classes."""
    rows = np.zeros(shards, ROW)
    rows["count"], rows["bytes"] = SAMPLES, 10**8
    present = min(classes, present)
    entries = np.zeros(shards * present, ENTRY)
    if classes:
        steps = np.arange(present, dtype=np.uint32) * (classes // present)
        entries["label"], entries["count"] = np.tile(steps, shards), SAMPLES // present
    rows["entries_end"] = np.arange(1, shards + 1) * present
    names = [name for n in range(shards) for name in (f"shard-{n:06d}.tar", f"shard-{n:06d}.index.npy")]
    table = ShardTable(rows, names)
    counts = ClassCounts(classes, rows["entries_end"].astype(np.int64), entries)
    fields = {"image": FieldSpec("image", (3, 256, 256), "uint8", codec="jpeg")}
    if classes:
        totals = np.bincount(entries["label"][:present], minlength=classes) * (SAMPLES // present) * shards
        counts.__dict__["totals"] = totals
        fields["class"] = FieldSpec("class", (), "int64", tuple(map(str, range(classes))))
    manifest = Manifest("large", fields, "none", "none", "nowhere", (), 0, table, FORMAT_5)
    manifest.__dict__["class_counts"] = counts
    manifest.save(folder)
    return manifest


def measured(folder: Path) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("classes", [0, 1000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_100_000_shards_are_known_in_a_second(tmp_path: Path, classes: int) -> None:
    large(tmp_path, classes, present=100 if classes == 1000 else SAMPLES)
    found = measured(tmp_path)
    assert found["load_s"] <= 1.0
    assert found["bytes"] <= 300e6
    assert found.get("window_s", 0.0) <= 0.05


def test_large_sets_have_tables_and_small_ones_keep_their_digests() -> None:
    small = [format_for(100, 0), format_for(90_000, 0), format_for(10_000, 1000), format_for(1000, 10_000)]
    assert small == [FORMAT] * 4
    assert [format_for(100_000, 0), format_for(100_000, 1000), format_for(2000, 20_000)] == [FORMAT_5] * 3


def test_what_is_saved_in_tables_is_loaded(tmp_path: Path) -> None:
    made = large(tmp_path, 20, shards=7, present=5)
    loaded = Manifest.load(tmp_path)
    assert loaded == made
    assert loaded.digest == made.digest
    assert (loaded.count, loaded.bytes, len(loaded.shards)) == (7000, 7 * 10**8, 7)
    assert loaded.class_histogram == [1400, 0, 0, 0] * 5
    assert loaded.class_counts.histogram(6) == [200, 0, 0, 0] * 5
    assert loaded.shards[-1].index == "shard-000006.index.npy"
    loaded.save(tmp_path)  # nothing is lost where it is written anew
    assert Manifest.load(tmp_path) == made


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (TABLE, b"x", "shards.table was changed"),
        (NAMES, None, "shards.names"),
        (NAMES, b"../../etc/passwd\nx\n", "shards.names was changed"),
        (COUNTS, b"", "shards.classes is truncated"),
    ],
)
def test_damaged_tables_are_one_clear_line(tmp_path: Path, file: str, content: bytes | None, words: str) -> None:
    large(tmp_path, 20, shards=7, present=5)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        Manifest.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_names_in_tables_stay_inside_and_counts_are_checked_as_they_are_used(tmp_path: Path) -> None:
    made = large(tmp_path, 20, shards=2, present=5)
    entries = made.class_counts.entries.copy()
    entries["label"][-1] = 10**6
    (tmp_path / COUNTS).write_bytes(entries.tobytes())
    counts = Manifest.load(tmp_path).class_counts
    counts.of(0)
    with pytest.raises(DataError, match="class counts of shard 1 are damaged"):
        counts.of(1)
    outside = replace(made, shards=ShardTable(made.shards.rows, ["../a.tar", "a.npy", "b.tar", "b.npy"]))  # type: ignore[attr-defined]
    outside.__dict__["class_counts"] = made.class_counts
    outside.save(tmp_path)
    with pytest.raises(DataError, match=r"'../a.tar', points outside"):
        Manifest.load(tmp_path)

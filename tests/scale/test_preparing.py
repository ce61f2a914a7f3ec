"""Large sources: what a listed file takes in memory, and a set that four machines make a part of each."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.fields.spec import FieldSpec
from data_pipelines.manifest import Manifest
from data_pipelines.preparation import Part
from data_pipelines.prepare.arrays import from_fields
from data_pipelines.write import ShardOptions, write_part, write_shards

LISTED, FOLDERS, ROWS = 1_000_000, 100, 1_000_000

PROGRAM = """
import sys, tracemalloc
from pathlib import Path
from data_pipelines.prepare import open_source

open_source(sys.argv[1] + "/class00", scratch=Path("."))  # what is imported is not counted
tracemalloc.start()
source = open_source(sys.argv[1], scratch=Path("."))
kept, most = tracemalloc.get_traced_memory()
print(len(source.items), kept / len(source.items), most / len(source.items))
"""


@pytest.mark.slow
def test_a_listed_file_takes_less_than_200_bytes(tmp_path: Path) -> None:
    for folder in range(FOLDERS):
        (tmp_path / f"class{folder:02d}").mkdir()
        for number in range(LISTED // FOLDERS):
            (tmp_path / f"class{folder:02d}" / f"image_{folder:02d}_{number:08d}.png").touch()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=900, check=True
    )
    count, kept, most = map(float, done.stdout.split())
    print(f"{count:.0f} files: {kept:.0f} bytes each are kept, {most:.0f} at most while they are listed")
    assert count == LISTED
    assert kept <= 200
    assert most <= 600


@pytest.mark.slow
def test_four_parts_are_the_set_that_one_machine_makes(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (ROWS, 8), dtype=np.uint8)
    source = from_fields("rows", {"row": rows}, {"row": FieldSpec("array", (8,), "uint8", codec="npy")})
    options = ShardOptions(shard_samples=1000)
    alone = write_shards(source, tmp_path / "alone", options)
    for number in range(4):
        write_part(source, tmp_path / "parts", Part(number, 4), options)
    write_shards(source, tmp_path / "parts", options)
    assert alone.count == ROWS
    assert Manifest.load(tmp_path / "parts").digest == alone.digest

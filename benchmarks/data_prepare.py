"""How fast shards are prepared, against a plain loop over Pillow on one core that does the same work.

    python benchmarks/data_prepare.py [--json] [--images 1500] [--repeats 3]

Photographs are cut into 512x512 JPEGs; each way turns them into 256x256 JPEGs in tars: decode, centre crop, Lanczos
resize, encode, write. The ways take turns, so that all meet the same neighbours on the machine; the median counts.
Beside the time on the clock stands the processor time (user and system, all processes), which neighbours change less.
"""

import argparse
import io
import json
import os
import resource
import shutil
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipelines.prepare.files import from_files
from data_pipelines.prepare.place import Place
from data_pipelines.protocol import ImageProtocol
from data_pipelines.write import ShardOptions, write_shards

PHOTOGRAPHS = Path("/usr/share/backgrounds")
SIDE, TARGET, QUALITY, SHARD = 512, 256, 90, 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        originals = Path(folder) / "in"
        pictures = cut_photographs(originals, arguments.images)
        ways = {
            "pillow loop": lambda out: plain_loop(originals, out),
            "1 worker": lambda out: bigtrain(originals, out, 1),
            f"{arguments.workers} workers": lambda out: bigtrain(originals, out, arguments.workers),
        }
        seconds, processor = take_turns(ways, Path(folder) / "out", arguments.repeats)
    speed = {name: arguments.images / statistics.median(values) for name, values in seconds.items()}
    ratios = [
        base / ours for base, ours in zip(seconds["pillow loop"], seconds[f"{arguments.workers} workers"], strict=True)
    ]
    result = {
        "images": arguments.images,
        "pictures": pictures,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "images_per_second": {name: round(value, 1) for name, value in speed.items()},
        "ratio_to_pillow_loop": {name: round(value / speed["pillow loop"], 2) for name, value in speed.items()},
        "processor_ms_per_image": {
            name: round(1000 * statistics.median(values) / arguments.images, 2) for name, values in processor.items()
        },
        "ratio_of_each_turn": [round(ratio, 2) for ratio in ratios],
    }
    print(json.dumps(result, indent=None if arguments.json else 1))


def take_turns(
    ways: dict[str, Callable[[Path], None]], out: Path, repeats: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Time each way `repeats` times, in turns: seconds on the clock, and of the processors."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start, used = time.perf_counter(), processor_seconds()
            way(out)
            seconds[name].append(time.perf_counter() - start)
            processor[name].append(processor_seconds() - used)
            shutil.rmtree(out)
    return seconds, processor


def processor_seconds() -> float:
    """Return the time that this process and its ended children have used."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def cut_photographs(folder: Path, count: int) -> str:
    """Write `count` JPEGs of 512x512 cut out of photographs, or of smooth noise where there are none; say which."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = [path for path in sorted(PHOTOGRAPHS.rglob("*.jpg")) if not path.is_symlink()][:24]
    photographs = []
    for path in paths:
        with Image.open(path) as picture:
            if min(picture.size) >= 2 * SIDE:
                photographs.append(picture.convert("RGB"))
    if not photographs:
        noise = rng.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
        photographs = [Image.fromarray(image).resize((2048, 2048), Image.Resampling.BICUBIC) for image in noise]
    for number in range(count):
        picture = photographs[number % len(photographs)]
        left, top = (int(rng.integers(0, size - SIDE)) for size in picture.size)
        picture.crop((left, top, left + SIDE, top + SIDE)).save(folder / f"{number:06d}.jpg", quality=92)
    return f"{len(paths)} photographs" if paths else "smooth noise"


def plain_loop(originals: Path, out: Path) -> None:
    """Do the work as anybody would write it down."""
    out.mkdir()
    tar = None
    for number, path in enumerate(sorted(originals.iterdir())):
        if number % SHARD == 0:
            if tar:
                tar.close()
            tar = tarfile.open(out / f"{number // SHARD:06d}.tar", "w")  # noqa: SIM115 - closed above and below
        with Image.open(path) as picture:
            image = picture.convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side)).resize((TARGET, TARGET), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=QUALITY, subsampling=0)
        member = tarfile.TarInfo(f"{number:09d}.jpg")
        member.size = stream.tell()
        stream.seek(0)
        tar.addfile(member, stream)
    tar.close()


def bigtrain(originals: Path, out: Path, workers: int) -> None:
    """Do it with manifest, index, checksums and resumption, from the listing of the folder on."""
    write_shards(
        from_files(Place(originals)),
        out,
        ShardOptions(protocol=ImageProtocol(TARGET, TARGET), codec="jpeg", quality=QUALITY, shard_samples=SHARD),
        workers=workers,
    )


if __name__ == "__main__":
    main()

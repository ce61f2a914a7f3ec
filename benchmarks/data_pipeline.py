"""How fast shards are read: against plain webdataset, the peers, and the decoder alone, on the same bytes.

    python benchmarks/data_pipeline.py                 # a table
    python benchmarks/data_pipeline.py --json          # every number
    python benchmarks/data_pipeline.py --only jpeg256 --rounds 3

Every contender yields shuffled batches of 64 uint8 images and their labels, endlessly, from the same encoded images
in the page cache, in this process or in two others. All take turns in each round, so that a noisy machine is noisy to
all; a ratio is the median over rounds of the ratio within a round. A peer that is not installed is left out, and said
to be. `python -m pip install 'bigtrain[bench]'` installs them.
"""

import argparse
import importlib.util
import json
import os
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_pipelines.batches import BatchMaker, BatchPlan
from data_pipelines.decode import Decoder
from data_pipelines.faults import FaultLog
from data_pipelines.fields.decoder import new_batch
from data_pipelines.prepare import NAMED_SOURCES
from data_pipelines.prepare.arrays import from_arrays
from data_pipelines.read import ShardDataset
from data_pipelines.stream import BatchStream
from data_pipelines.write import ShardOptions, write_shards

BATCH = 64
PHOTOGRAPHS = Path("/usr/share/backgrounds/mate/nature")  # Debian's package mate-backgrounds

Contender = Callable[["Data", int], Iterator[Any]]


@dataclass(frozen=True)
class Data:
    """One set of images, as every contender's format.

    Attributes:
        name: of the set.
        folder: with a sub-folder for each format.
        suffix: of the images' files.
        measured: images that a contender reads in one turn.
    """

    name: str
    folder: Path
    suffix: str
    measured: int

    @property
    def shards(self) -> Path:
        return self.folder / "shards"

    @property
    def decoder(self) -> Decoder:
        decoder = ShardDataset(self.shards).decoders["image"]
        assert isinstance(decoder, Decoder)
        return decoder

    def urls(self) -> list[str]:
        return [str(path) for path in sorted(self.shards.glob("*.tar"))]

    def samples(self) -> Iterator[tuple[bytes, int]]:
        dataset = ShardDataset(self.shards)
        for location in dataset.locations():
            yield bytes(dataset.read_raw(location)), dataset.label(location)


class Decode:
    """Maps an image's bytes to an array [C, H, W]; may be sent to other processes."""

    def __init__(self, data: Data) -> None:
        self.shape, self.decoder = data.decoder.shape, None

    def __call__(self, content: bytes) -> np.ndarray:
        self.decoder = self.decoder or Decoder(self.shape)
        image = self.decoder.batch(1)[0]
        self.decoder.decode(memoryview(content), image)
        return image

    def __getstate__(self) -> dict[str, Any]:
        return {"shape": self.shape, "decoder": None}


# What competes. Each makes an endless iterator of batches; workers is 0 or 2.


def decode_only(data: Data, workers: int) -> Iterator[Any]:
    """The limit: bytes that are in memory, decoded into one batch again and again, in as many processes."""
    decoder, samples = data.decoder, list(data.samples())
    batch = decoder.batch(BATCH)

    def decode_forever() -> Iterator[Any]:
        number = 0
        while True:
            files = [memoryview(samples[(number + slot) % len(samples)][0]) for slot in range(BATCH)]
            decoder.decode_many(files, batch)
            number += BATCH
            yield batch

    return decode_forever() if workers == 0 else in_processes(decode_forever, workers)


def in_processes(make: Callable[[], Iterator[Any]], workers: int, ahead: int = 3) -> Iterator[None]:
    """Run an iterator in forked processes, a few batches ahead, that send one byte a batch and nothing else."""
    ends = []
    for _ in range(workers):
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            ours.close()
            for _ in make():
                if not theirs.recv(1):
                    os._exit(0)
                theirs.send(b".")
        theirs.close()
        ours.send(b"." * ahead)
        ends.append(ours)
    while True:
        for end in ends:
            yield None
            end.recv(1)
            end.send(b".")


def ours(data: Data, workers: int) -> Iterator[Any]:
    plan = BatchPlan(str(data.shards), seed=0, global_batch=BATCH)
    if workers:
        return BatchStream(plan, loader="processes", workers=workers)
    faults = FaultLog()
    maker = BatchMaker(plan, plan.open(faults), faults)

    def in_this_process() -> Iterator[Any]:
        for start in range(0, 2**60, BATCH):
            fields = new_batch(maker.decoders, BATCH)
            maker.make(start, fields)
            yield fields

    return in_this_process()


def ours_in_threads(data: Data, workers: int) -> Iterator[Any]:
    plan = BatchPlan(str(data.shards), seed=0, global_batch=BATCH)
    return BatchStream(plan, loader="threads", workers=max(workers, 1))


def webdataset(data: Data, workers: int, *decode: Any) -> Iterator[Any]:
    import webdataset as wds

    shuffled = wds.WebDataset(data.urls(), shardshuffle=100, seed=0, empty_check=False).shuffle(1000)
    pipeline = shuffled.compose(*decode).to_tuple(data.suffix, "cls").batched(BATCH, partial=False)
    loader = wds.WebLoader(pipeline, batch_size=None, num_workers=workers, persistent_workers=workers > 0)
    return chain.from_iterable(repeat(loader))


def webdataset_pillow(data: Data, workers: int) -> Iterator[Any]:
    """As its documentation has it: `decode` to uint8 arrays, by Pillow."""
    import webdataset as wds

    return webdataset(data, workers, wds.decode("l8" if data.decoder.shape[0] == 1 else "rgb8"))


def webdataset_same_decoder(data: Data, workers: int) -> Iterator[Any]:
    import webdataset as wds

    return webdataset(data, workers, wds.map_dict(**{data.suffix: Decode(data), "cls": int}))


def torch_loader(dataset: Any, workers: int, **options: Any) -> Iterator[Any]:
    from torch.utils.data import DataLoader

    loader = DataLoader(dataset, BATCH, num_workers=workers, drop_last=True, persistent_workers=workers > 0, **options)
    return chain.from_iterable(repeat(loader))


def pil_to_array(image: Image.Image) -> np.ndarray:
    array = np.array(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def image_folder(data: Data, workers: int) -> Iterator[Any]:
    from torchvision.datasets import ImageFolder

    folder = data.folder / "image-folder"
    if not folder.exists():
        for number, (content, label) in enumerate(data.samples()):
            path = folder / str(label) / f"{number:06d}.{data.suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return torch_loader(ImageFolder(str(folder), transform=pil_to_array), workers, shuffle=True)


def mosaicml_streaming(data: Data, workers: int) -> Iterator[Any]:
    from streaming import MDSWriter, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    folder = data.folder / "mosaicml"
    if not folder.exists():
        with MDSWriter(out=str(folder), columns={"image": "bytes", "label": "int"}) as out:
            for content, label in data.samples():
                out.write({"image": content, "label": label})
    decode = Decode(data)

    class Decoded(StreamingDataset):
        def __getitem__(self, at: int) -> Any:
            sample = super().__getitem__(at)
            return decode(sample["image"]), sample["label"]

    clean_stale_shared_memory()
    return torch_loader(Decoded(local=str(folder), shuffle=True, batch_size=BATCH), workers)


def litdata(data: Data, workers: int) -> Iterator[Any]:
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    folder = data.folder / "litdata"
    if not folder.exists():
        folder.mkdir()
        writer = BinaryWriter(str(folder), chunk_bytes="64MB")
        for number, sample in enumerate(data.samples()):
            writer.add_item(number, sample)
        writer.done()
        writer.merge()
    decode = Decode(data)

    class Decoded(StreamingDataset):
        def __getitem__(self, at: Any) -> Any:
            content, label = super().__getitem__(at)
            return decode(content), label

    loader = StreamingDataLoader(
        Decoded(str(folder), shuffle=True, drop_last=True),
        batch_size=BATCH,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return chain.from_iterable(repeat(loader))


CONTENDERS: dict[str, tuple[Contender, str]] = {
    "decode only": (decode_only, "numpy"),
    "bigtrain": (ours, "numpy"),
    "bigtrain, threads": (ours_in_threads, "numpy"),
    "webdataset + PIL": (webdataset_pillow, "webdataset"),
    "webdataset + our decoder": (webdataset_same_decoder, "webdataset"),
    "torchvision ImageFolder": (image_folder, "torchvision"),
    "mosaicml-streaming + our decoder": (mosaicml_streaming, "streaming"),
    "litdata + our decoder": (litdata, "litdata"),
}


# The data.


def fashion(folder: Path) -> Data:
    """10,000 grey 32x32 PNGs: Fashion-MNIST, as in configs/quickstart.yaml."""
    data = Data("png32", folder / "png32", "png", 16_000)
    if not data.shards.exists():
        write_shards(NAMED_SOURCES["fashion-mnist-10k"]("all"), data.shards, ShardOptions(codec="png"))
    return data


def photographs(folder: Path, name: str, size: int, count: int, codec: str, measured: int) -> Data:
    """Crops of photographs, of 2 to 8 times the size, resized; in ten classes that mean nothing."""
    data = Data(name, folder / name, {"png": "png", "jpeg": "jpg"}[codec], measured)
    if not data.shards.exists():
        photos = [Image.open(path).convert("RGB") for path in sorted(PHOTOGRAPHS.glob("*.jpg"))]
        random = np.random.default_rng(0)
        images = np.stack([crop(photos[random.integers(len(photos))], size, random) for _ in range(count)])
        labels = np.arange(count) % 10
        source = from_arrays(name, images, labels, classes=list("0123456789"), origin=str(PHOTOGRAPHS))
        write_shards(source, data.shards, ShardOptions(codec=codec, quality=90))
    return data


def crop(photo: Image.Image, size: int, random: np.random.Generator) -> np.ndarray:
    side = min(int(size * random.uniform(2, 8)), *photo.size)
    left, top = (int(random.integers(length - side + 1)) for length in photo.size)
    part = photo.resize((size, size), Image.Resampling.LANCZOS, (left, top, left + side, top + side))
    return np.asarray(part).transpose(2, 0, 1).copy()


SETS: dict[str, Callable[[Path], Data]] = {
    "png32": fashion,
    "png32-colour": lambda folder: photographs(folder, "png32-colour", 32, 10_000, "png", 16_000),
    "jpeg256": lambda folder: photographs(folder, "jpeg256", 256, 2000, "jpeg", 640),
}


# Measuring.


def cpu_seconds() -> float:
    """CPU time of this process and of all that it has started."""
    ticks, waiting = 0, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            for thread in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def turn(batches: Iterator[Any], images: int) -> tuple[float, float]:
    """Return images a second and CPU microseconds an image; what was read ahead meanwhile is thrown away first."""
    for _ in range(8):
        next(batches)
    cpu, began = cpu_seconds(), time.perf_counter()
    for _ in range(images // BATCH):
        next(batches)
    return images / (time.perf_counter() - began), (cpu_seconds() - cpu) / images * 1e6


def measure(data: Data, workers: int, rounds: int) -> dict[str, Any]:
    running: dict[str, Iterator[Any]] = {}
    absent: dict[str, str] = {}
    for name, (make, package) in CONTENDERS.items():
        if importlib.util.find_spec(package) is None:
            absent[name] = f"{package} is not installed"
            continue
        try:
            running[name] = iter(make(data, workers))
            next(running[name])
        except ImportError as error:
            absent[name] = str(error)
            running.pop(name, None)
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in running}
    for _ in range(rounds):
        for name, batches in running.items():
            results[name].append(turn(batches, data.measured))
    return {"set": data.name, "workers": workers, "absent": absent, "contenders": summary(results)}


def summary(results: dict[str, list[tuple[float, float]]]) -> dict[str, dict[str, Any]]:
    speeds = {name: [speed for speed, _ in turns] for name, turns in results.items()}
    return {
        name: {
            "images_per_s": statistics.median(speeds[name]),
            "lowest": min(speeds[name]),
            "highest": max(speeds[name]),
            "cpu_us_per_image": statistics.median(cpu for _, cpu in turns),
            "bigtrain_is_faster_by": statistics.median(
                ours / theirs for ours, theirs in zip(speeds["bigtrain"], speeds[name], strict=True)
            ),
        }
        for name, turns in results.items()
    }


def show(result: dict[str, Any]) -> None:
    print(f"\n{result['set']}, {result['workers']} workers, images a second (median, lowest to highest)")
    for name, numbers in result["contenders"].items():
        print(
            f"  {name:34}{numbers['images_per_s']:9.0f}  ({numbers['lowest']:.0f} to {numbers['highest']:.0f})"
            f"  {numbers['cpu_us_per_image']:7.1f} us of CPU   bigtrain / it {numbers['bigtrain_is_faster_by']:.2f}"
        )
    for name, why in result["absent"].items():
        print(f"  {name:34}absent: {why}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/bigtrain-bench"), help="for the data, kept")
    parser.add_argument("--only", choices=SETS, help="one set of images")
    parser.add_argument("--workers", type=int, choices=(0, 2), help="one way of reading")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print one JSON line a measurement")
    options = parser.parse_args()
    for name in [options.only] if options.only else SETS:
        data = SETS[name](options.folder)
        for workers in [options.workers] if options.workers is not None else (0, 2):
            result = in_a_child(lambda data=data, workers=workers: measure(data, workers, options.rounds))
            print(json.dumps(result), flush=True) if options.json else show(result)


def in_a_child(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what `work` returns in a process of its own, whose helpers and shared memory end with it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.close(reading)
        os.write(writing, json.dumps(work()).encode())
        os.killpg(0, 9)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        content = answer.read()
    os.waitpid(pid, 0)
    return json.loads(content)


if __name__ == "__main__":
    main()

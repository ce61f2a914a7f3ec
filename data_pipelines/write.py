"""Write a source into shards: WebDataset tars, an index beside each, and the manifest over all of them.

A shard is a pure function of its slice of the source, so that any number of processes makes the same set, and a
preparation that was killed goes on behind its last finished shard.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from tarfile import BLOCKSIZE
from typing import Self

from data_pipelines.codec import CODECS, check_channels
from data_pipelines.encoding import Encoding
from data_pipelines.errors import DataError
from data_pipelines.fields.registry import check_spec
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.fields.text import NO_UTF_8
from data_pipelines.manifest import CLASS, FORMAT, IMAGE, Manifest, format_for
from data_pipelines.manifest_v3 import FORMAT_3
from data_pipelines.pictures import PIXEL_LIMIT
from data_pipelines.pool import make_all
from data_pipelines.preparation import Part, Preparation, is_prepared
from data_pipelines.protocol import ImageProtocol, Rejected, measure
from data_pipelines.shard import Rejection, ShardMaker, ShardResult, ShardTask
from data_pipelines.shard_table import Shard
from data_pipelines.source import Item, Lost, Source, Span

_PROBES = 64
_SHARD_SAMPLES = 1000
_AS_THEY_ARE = "arrays as they are"
_UNFIT = {"size", "mode", "format", "orientation"}
"""Reasons for which a file cannot be kept as it is."""


@dataclass(frozen=True)
class ShardOptions:
    """How samples are written into shards.

    Attributes:
        protocol: of crop and resize; None: the source's usual one, else images of the source's one size.
        codec: one of `CODECS`.
        quality: of JPEG and WebP, 1 to 100.
        shard_samples: samples a shard, at most; rejected ones leave it with fewer.
        shard_bytes: bytes a shard, about: as many samples as fit on the average. Where neither is given, a shard has
            1,000 samples.
        in_place: index the source's tars where they are, and write none.
    """

    protocol: ImageProtocol | None = None
    codec: str = "png"
    quality: int = 95
    shard_samples: int | None = None
    shard_bytes: int | None = None
    in_place: bool = False


_USUAL = ShardOptions()


def write_shards(
    source: Source,
    folder: Path,
    options: ShardOptions = _USUAL,
    *,
    workers: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Manifest:
    """Write all samples of `source` into `folder`, which appears whole or not at all.

    The same call goes on where a killed one stopped, makes what no call of `write_part` has made, and changes nothing
    where the set is there already.

    Args:
        source: the samples.
        folder: must not hold anything else.
        options: of the shards.
        workers: processes.
        on_progress: called now and then with the number of samples done, of `len(source.items)`.

    Raises:
        DataError: no sample is usable, the options do not fit the source, or the folder holds something else.
    """
    plan = _Plan.of(source, options)
    if is_prepared(folder, plan.fingerprint):
        return Manifest.load(folder)
    with Preparation(folder, plan.fingerprint) as preparation:
        tasks, encoding = plan.shards()
        results = plan.make(preparation, tasks, encoding, workers=workers, on_progress=on_progress)
        rejected = [entry for task in tasks for entry in results[task.number].rejected]
        shards = [shard for task in tasks if (shard := results[task.number].shard)]
        if not shards:
            raise DataError(
                f"{source.origin}: none of {len(rejected)} images is usable; {_first(rejected)}"
                f"{_way_on(rejected, encoding)}"
            )
        manifest = _manifest_of(source, encoding, shards, len(rejected))
        preparation.finish(manifest, rejected)
    return manifest


def write_part(
    source: Source,
    folder: Path,
    part: Part,
    options: ShardOptions = _USUAL,
    *,
    workers: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Make the shards of one part of a set, and leave the others to other machines.

    When all parts are made, `write_shards` with the same source and options finishes the set, whose bytes do not
    depend on how many machines made it.

    Args:
        source: the samples, all of them.
        folder: of the whole set.
        part: which of the shards are made.
        options: of the shards.
        workers: processes.
        on_progress: called now and then with the number of samples done, of `len(source.items)`.

    Raises:
        DataError: see `write_shards`.
    """
    plan = _Plan.of(source, options)
    if is_prepared(folder, plan.fingerprint):
        return
    with Preparation(folder, plan.fingerprint, part) as preparation:
        tasks, encoding = plan.shards()
        plan.make(preparation, tasks[part.number :: part.of], encoding, workers=workers, on_progress=on_progress)


@dataclass(frozen=True)
class _Plan:
    """What is to be written.

    Attributes:
        source: the samples.
        options: of the shards.
        encoding: of the samples.
        fingerprint: of all of these.
    """

    source: Source
    options: ShardOptions
    encoding: Encoding
    fingerprint: str

    @classmethod
    def of(cls, source: Source, options: ShardOptions) -> Self:
        """Check the options against the source."""
        if not source.items:
            raise DataError(f"{source.origin}: no images in it")
        if options.in_place and not source.spans:
            raise DataError(f"{source.origin}: only tars can be indexed in place")
        protocol = options.protocol
        if source.images:
            protocol = protocol or source.usual or exact_protocol(source)
        codec = "source" if options.in_place else options.codec
        encoding = Encoding(source.images, source.fields, source.members, protocol, codec, options.quality)
        _check_options(encoding, options.shard_samples, options.shard_bytes)
        asked = (source.fingerprint, encoding, options.shard_samples, options.shard_bytes, options.in_place)
        return cls(source, options, encoding, hashlib.sha256(repr(asked).encode()).hexdigest())

    def shards(self) -> tuple[list[ShardTask], Encoding]:
        """Return the samples of each shard, and the encoding in the format of a set of so many shards."""
        source, options = self.source, self.options
        if options.in_place:
            tasks = _by_tar(source.items)
        else:
            tasks = _by_count(source, self.encoding, options.shard_samples, options.shard_bytes)
        return tasks, replace(self.encoding, format=_format_of(self.encoding, len(tasks), len(source.classes)))

    def make(
        self,
        preparation: Preparation,
        tasks: Sequence[ShardTask],
        encoding: Encoding,
        *,
        workers: int,
        on_progress: Callable[[int], None],
    ) -> dict[int, ShardResult]:
        """Make the shards that an earlier call has not finished; return the results of all by number."""
        maker = ShardMaker(preparation.partial, self.source.reader, encoding, len(self.source.classes))
        make = maker.index if self.options.in_place else maker.write
        results = preparation.finished()
        before = sum(len(task.items) for task in tasks if task.number in results)
        todo = [task for task in tasks if task.number not in results]
        on_progress(before)
        for task, result in make_all(make, todo, workers=workers, on_progress=lambda done: on_progress(before + done)):
            preparation.record(task.number, result)
            results[task.number] = result
        return results


def _format_of(encoding: Encoding, shards: int, classes: int) -> str:
    """Return the format of a set: the earlier one, which more programs read, where an image and a class are all."""
    form = format_for(shards, classes)
    simple = encoding.images == (IMAGE,) and not encoding.fields and not encoding.members
    return FORMAT_3 if simple and form == FORMAT else form


def _manifest_of(source: Source, encoding: Encoding, shards: Sequence[Shard], rejected: int) -> Manifest:
    labelled = {CLASS: FieldSpec(CLASS, (), "int64", source.classes)} if source.classes else {}
    return Manifest(
        name=source.name,
        fields={**encoding.specs(), **labelled},
        protocol="; ".join(words for words in (source.words, encoding.words) if words) or _AS_THEY_ARE,
        licence=source.licence,
        source=source.origin,
        members=source.members,
        rejected=rejected,
        shards=tuple(shards),
        format=encoding.format,
    )


def exact_protocol(source: Source, channels: int = 3, pixel_limit: int = PIXEL_LIMIT) -> ImageProtocol:
    """Return the protocol of images that are alike: the size of most of some that are looked at.

    Raises:
        DataError: they cannot be read, or are of several sizes.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    problems = []
    for item in _spread(source.items):
        try:
            sizes[measure(source.read(item.where), pixel_limit)] += 1
        except Rejected as answer:
            problems.append(Rejection(item.name, answer.reason, answer.detail))
    if not sizes:
        raise DataError(f"{source.origin}: none of {len(problems)} images can be read; {_first(problems)}")
    (height, width), most = sizes.most_common(1)[0]
    if most < 0.75 * sizes.total():
        some = ", ".join(f"{height}x{width}" for (height, width), _ in sizes.most_common(3))
        codec = ", and a --codec such as png, to write new files" if source.spans else ""
        raise DataError(f"{source.origin}: images of several sizes ({some} ...): choose a --resolution{codec}")
    return ImageProtocol(height, width, channels, crop="exact", pixel_limit=pixel_limit)


def check_kept_files(source: Source, protocol: ImageProtocol) -> None:
    """See that most files, of some that are looked at, can be kept as they are.

    Raises:
        DataError: they cannot; the message says which option writes them anew.
    """
    problems, count = [], 0
    for item in _spread(source.items):
        try:
            content = source.read(item.where)
            count += 1
            if isinstance(content, bytes):
                protocol.check_untouched(content)
        except Rejected as answer:
            if answer.reason in _UNFIT:
                problems.append(Rejection(item.name, answer.reason, answer.detail))
    if len(problems) > 0.25 * count:
        raise DataError(
            f"{source.origin}: tars are indexed in place, with unchanged files, but {len(problems)} of {count} that "
            f"were checked do not fit ({_first(problems)}): choose a --codec, such as png or jpeg, to write new ones"
        )


def _check_options(encoding: Encoding, *limits: int | None) -> None:
    if encoding.codec not in CODECS:
        raise DataError(f"unknown codec {encoding.codec!r}: choose one of {', '.join(CODECS)}")
    try:
        if encoding.protocol is not None:
            check_channels(encoding.codec, encoding.protocol.channels)
        for spec in encoding.fields.values():
            check_spec(spec)
    except ValueError as error:
        raise DataError(str(error)) from None
    if not 1 <= encoding.quality <= 100:
        raise DataError(f"a quality is 1 to 100, not {encoding.quality}")
    if any(limit is not None and limit < 1 for limit in limits):
        raise DataError("a shard contains at least one sample, and one byte")


def _by_count(
    source: Source, encoding: Encoding, shard_samples: int | None, shard_bytes: int | None
) -> list[ShardTask]:
    """Cut a source into shards of equal numbers of samples."""
    limits = [] if shard_samples is None else [shard_samples]
    limits += [] if shard_bytes is None else [max(1, shard_bytes // _mean_bytes(source, encoding))]
    step = min(limits, default=_SHARD_SAMPLES)
    starts = range(0, len(source.items), step)
    return [ShardTask(number, start, source.items[start : start + step]) for number, start in enumerate(starts)]


def _mean_bytes(source: Source, encoding: Encoding) -> int:
    """Estimate what a sample takes in a tar, from a few of them: headers, fields, and its class."""
    sizes = []
    for item in _spread(source.items):
        try:
            files = encoding.files_of(source.reader, item).values()
        except Rejected:
            continue
        blocks = [1 + -(-len(file.content) // BLOCKSIZE) for file in files if file.content]  # and one of header each
        sizes.append((sum(blocks) + 2 * (item.label >= 0)) * BLOCKSIZE)
    return sum(sizes) // len(sizes) if sizes else 1


def _by_tar(items: Sequence[Item]) -> list[ShardTask]:
    """Group items by the tar that they lie in."""

    def tar(item: Item) -> str:
        assert isinstance(item.where, Span | Lost)
        return item.where.path

    tasks: list[ShardTask] = []
    first = 0
    for number, (_, members) in enumerate(groupby(items, key=tar)):
        tasks.append(ShardTask(number, first, list(members)))
        first += len(tasks[-1].items)
    return tasks


def _spread(items: Sequence[Item]) -> Sequence[Item]:
    """Return a few items from all over a sequence."""
    return [items[place * len(items) // _PROBES] for place in range(_PROBES)] if len(items) > _PROBES else items


def _way_on(rejected: Sequence[Rejection], encoding: Encoding) -> str:
    """Return which option would help where all samples are rejected for one reason."""
    reasons = {entry.reason for entry in rejected}
    texts = any(NO_UTF_8 in entry.detail for entry in rejected)  # which no option writes anew
    if encoding.codec == "source" and reasons <= _UNFIT and not texts:
        return "; files are kept unchanged: --codec png writes new ones"
    small = all(entry.reason == "size" and "smaller" in entry.detail for entry in rejected)
    return "; --upscale enlarges them" if small else ""


def _first(rejected: Sequence[Rejection]) -> str:
    return f"the first, {rejected[0].source}: {rejected[0].reason}, {rejected[0].detail}"

"""Sounds in a folder or a zip: of one rate, number of channels and length; classes are those that images have.

A recording is read, cut, resampled if a rate is asked for, and mixed if a number of channels is. Where nothing is asked
for, samples of 16 bits are kept bit for bit, and sounds that are not like most are rejected.
"""

import contextlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipelines.errors import DataError
from data_pipelines.fields.kind import LARGEST_VALUE
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.prepare.files import source_of
from data_pipelines.prepare.names import suffix_of
from data_pipelines.prepare.place import Place
from data_pipelines.prepare.sound_form import SoundForm
from data_pipelines.protocol import Rejected
from data_pipelines.source import Excerpt, FileReader, Item, Lost, Reader, Row, Source, Span, Where, read_from

AUDIO = "audio"
"""Name of the field."""

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au", ".mp3")
"""Extensions of files that are taken for sounds; libsndfile reads all of them."""

SHORTEST = 0.01
"""Seconds; a shorter recording is rejected."""

SILENCE = -60.0
"""Decibels of full scale; a sample in which nothing is louder is rejected."""

_PROBES = 64
_MORE_THAN_16_BITS = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_20", "ALAC_24", "ALAC_32")
"""libsndfile's names of samples that 16 bits would round."""


def names_of(place: Place) -> list[str]:
    """Return the names of the sounds in a folder or a zip, by their extensions."""
    return [name for name in place.listing.files if suffix_of(name) in SUFFIXES]


def from_sounds(place: Place) -> Source:
    """Return the sounds of a folder or a zip, with their classes; the field is `audio`.

    Raises:
        DataError: no sounds, no such part, or it is unclear what their classes are.
    """
    names = names_of(place)
    if not names:
        raise DataError(f"{place.path}: no sounds in it ({', '.join(SUFFIXES)})")
    return as_sounds(source_of(place, names), place.sounds)


def as_sounds(source: Source, form: SoundForm) -> Source:
    """Return the sounds of a source whose first field is found as files of sounds.

    Args:
        source: of the files; its other fields are left as they are.
        form: what is asked for.

    Raises:
        DataError: the form makes no sense, or none of the files that are looked at can be read.
    """
    form.check()
    spec = _common(source, form)
    items = list(_excerpts(source, spec)) if form.cut == "windows" else [_whole(item) for item in source.items]
    return replace(
        source,
        items=items,
        reader=SoundReader(source.reader, spec, form),
        images=(),
        fields={AUDIO: spec, **source.fields},
        words=form.words(spec),
        stamp=f"{source.stamp} {form}",
    )


@dataclass(frozen=True)
class SoundReader:
    """Sounds as arrays of one form.

    Attributes:
        reader: of the files, and of whatever else the samples have.
        spec: of the sounds.
        form: what was asked for.
    """

    reader: Reader
    spec: FieldSpec
    form: SoundForm

    def read(self, where: Where) -> bytes | NDArray[Any]:
        """Return a sound, shape [channels, samples]; of other fields, what there is."""
        if not isinstance(where, Excerpt):
            return self.reader.read(where)
        sound = self._converted(read_from(self.reader, where.where), where.number)
        peak = float(np.abs(sound / (32768 if sound.dtype == np.int16 else 1)).max())
        if peak <= 10 ** (SILENCE / 20):
            raise Rejected("silent", f"no sample is louder than {SILENCE:.0f} dB of full scale")
        fitted = np.zeros(self.spec.shape, sound.dtype)
        fitted[:, : sound.shape[1]] = sound
        return fitted

    def _converted(self, content: bytes | NDArray[Any], number: int) -> NDArray[Any]:
        """Return excerpt `number` of a recording, no longer than asked for."""
        import soundfile

        assert isinstance(content, bytes)
        try:
            with soundfile.SoundFile(io.BytesIO(content)) as file:
                _check(file, self.spec, self.form)
                return self._cut(file, number)
        except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
            raise Rejected("unreadable", f"cannot be read as a sound ({error})") from None

    def _cut(self, file: Any, number: int) -> NDArray[Any]:
        from data_pipelines.prepare.resampling import Ratio, excerpt

        assert self.spec.rate is not None
        channels, samples = self.spec.shape
        ratio = Ratio.between(file.samplerate, int(self.spec.rate))
        first = self.form.first_sample(ratio.length_of(file.frames), samples, number)
        if ratio == (1, 1) and file.channels == channels and (file.subtype, self.spec.dtype) == ("PCM_16", "int16"):
            file.seek(first)
            kept: NDArray[np.int16] = file.read(samples, dtype="int16", always_2d=True)
            return kept.T
        sound = excerpt(file, ratio, first, samples).T
        sound = sound.mean(0, keepdims=True) if channels == 1 else np.broadcast_to(sound, (channels, sound.shape[1]))
        if self.spec.dtype == "float32":
            return sound.clip(-1, 1).astype(np.float32)
        return (sound * 32768).round().clip(-32768, 32767).astype(np.int16)


def _check(file: Any, spec: FieldSpec, form: SoundForm) -> None:
    """Reject a recording that is too short, or of another form that is not to be changed."""
    if file.frames < max(1, SHORTEST * file.samplerate):
        raise Rejected("short", f"{file.frames / file.samplerate:.4g} s, expected {SHORTEST} s or more")
    if form.rate is None and file.samplerate != spec.rate:
        raise Rejected("rate", f"{file.samplerate} Hz, expected {spec.rate:g} Hz as most files have; --rate resamples")
    channels = spec.shape[0]
    if form.channels is None and file.channels != channels:
        raise Rejected("channels", f"{file.channels}, expected {channels} as most files have; --channels 1 mixes them")
    if channels not in (1, file.channels) and file.channels != 1:
        raise Rejected("channels", f"{file.channels}, which cannot be converted to {channels}")


def _whole(item: Item) -> Item:
    """Return a sample that is one excerpt of its recording."""
    return item if isinstance(item.where, Lost) else item._replace(where=_part_of(item.where, 0))


def _part_of(where: Where, number: int) -> Excerpt:
    assert isinstance(where, str | Span | Row)
    return Excerpt(where, number)


def _excerpts(source: Source, spec: FieldSpec) -> Iterator[Item]:
    """Yield a sample for every window of every recording; one for a recording that is shorter, or cannot be read."""
    from data_pipelines.prepare.resampling import Ratio

    assert spec.rate is not None
    for item in source.items:
        if isinstance(item.where, Lost):
            yield item
            continue
        windows = 1
        with contextlib.suppress(Rejected):
            about = _about(source, item.where)
            samples = Ratio.between(about.rate, int(spec.rate)).length_of(about.frames)
            windows = max(1, samples // spec.shape[1])
        for number in range(windows):
            yield item._replace(name=f"{item.name}[{number}]", where=_part_of(item.where, number))


@dataclass(frozen=True)
class _About:
    """What a recording's header tells: samples a second, channels, samples, and whether 16 bits would round these."""

    rate: int
    channels: int
    frames: int
    fine: bool


def _about(source: Source, where: Where) -> _About:
    """Read a recording's header; of a file in a folder, no more than that is read."""
    import soundfile

    in_folder = isinstance(source.reader, FileReader) and isinstance(where, str)
    content = str(source.reader.folder / where) if in_folder else io.BytesIO(source.read(where))  # type: ignore
    try:
        with soundfile.SoundFile(content) as file:
            return _About(file.samplerate, file.channels, file.frames, file.subtype in _MORE_THAN_16_BITS)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise Rejected("unreadable", f"cannot be read as a sound ({error})") from None


def _common(source: Source, form: SoundForm) -> FieldSpec:
    """Return the spec that is asked for; what is not asked for is as most of some recordings have it."""
    found, problem = [], "none is there"
    step = max(1, len(source.items) // _PROBES)
    for item in source.items[::step]:
        try:
            about = _about(source, item.where)
        except Rejected as answer:
            problem = f"{item.name}: {answer.detail}"
            continue
        found += [about] if about.frames else []
    if not found:
        raise DataError(f"{source.origin}: none of its sounds can be read; the last, {problem}")
    rate = form.rate or _most([one.rate for one in found])
    channels = form.channels or _most([one.channels for one in found])
    dtype = "float32" if _most([one.fine for one in found]) else "int16"
    seconds = form.seconds or max(one.frames / one.rate for one in found if form.rate or one.rate == rate)
    samples = round(rate * seconds) if form.seconds else ceil(rate * seconds)
    if samples * channels * 4 > LARGEST_VALUE:
        raise DataError(f"{source.origin}: sounds of {seconds:.0f} s are too long for a sample: --seconds cuts them")
    codec = "flac" if dtype == "int16" and channels <= 8 else "wav"
    return FieldSpec(AUDIO, (channels, samples), dtype, rate=rate, codec=codec)


def _most(values: Sequence[Any]) -> Any:
    return Counter(values).most_common(1)[0][0]

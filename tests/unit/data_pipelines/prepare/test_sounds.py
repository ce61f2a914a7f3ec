"""Files of sounds become samples of one rate, number of channels and length."""

import hashlib
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_pipelines.errors import DataError
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.manifest import Manifest
from data_pipelines.prepare import drums, open_source, syllables
from data_pipelines.prepare.fetch import Archive
from data_pipelines.prepare.resampling import Ratio, excerpt
from data_pipelines.prepare.run import PrepareOptions, prepare
from data_pipelines.prepare.sound_form import SoundForm
from data_pipelines.read import ShardDataset
from data_pipelines.verify import verify

RNG = np.random.default_rng(26)


def noise(samples: int, channels: int = 1) -> np.ndarray:
    return RNG.integers(-9000, 9000, (samples, channels), dtype=np.int16)


def sine(hertz: float, rate: int, seconds: float = 0.5) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def save(path: Path, wave: np.ndarray, rate: int = 8000, subtype: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, subtype)


def made(source: Path, form: SoundForm | None = None, **options: object) -> tuple[Manifest, np.ndarray, np.ndarray]:
    """Prepare sounds in their own order beside the source; return manifest, sounds as they are stored, and classes."""
    folder = source.with_name("set")
    prepare(open_source(str(source), sounds=form), folder, PrepareOptions(seed=None, **options))
    assert verify(folder, deep=True) == []
    dataset = ShardDataset(folder)
    fields = dict(dataset.read(list(dataset.locations())))
    return dataset.manifest, fields["audio"], fields.get("class", np.zeros(0))


def rejected(folder: Path) -> dict[str, tuple[str, str]]:
    lines = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    return {line["source"]: (line["reason"], line["detail"]) for line in lines}


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff"])
def test_sounds_of_16_bits_are_kept_bit_for_bit_and_made_as_long_as_the_longest(tmp_path: Path, suffix: str) -> None:
    waves = [noise(length, 2) for length in (150, 180, 160)]
    waves[0][:3] = [[-32768, 32767], [0, 1], [-1, 0]]
    for number, wave in enumerate(waves):
        save(tmp_path / "in" / f"{number}.{suffix}", wave)
    manifest, sounds, _ = made(tmp_path / "in")
    assert manifest.fields["audio"] == FieldSpec("audio", (2, 180), "int16", rate=8000, codec="flac")
    for sound, wave in zip(sounds, waves, strict=True):
        assert sound.T.tolist() == [*wave.tolist(), *[[0, 0]] * (180 - len(wave))]


def test_what_cannot_be_a_sample_is_listed_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number in range(3):
        save(folder / f"{number}.wav", noise(400))
    save(folder / "fast.wav", noise(400), 16000)
    save(folder / "short.wav", noise(79))
    save(folder / "silent.wav", np.zeros((400, 1), np.int16))
    save(folder / "stereo.wav", noise(400, 2))
    (folder / "text.wav").write_text("no sound")
    whole = (folder / "0.wav").read_bytes()
    (folder / "empty.wav").write_bytes(whole[:44])
    (folder / "gone.wav").symlink_to("nowhere.wav")
    _, sounds, _ = made(folder)
    assert len(sounds) == 3
    found = rejected(tmp_path / "set")
    assert {name: reason for name, (reason, _) in found.items()} == {
        "empty.wav": "short",
        "fast.wav": "rate",
        "gone.wav": "missing",
        "short.wav": "short",
        "silent.wav": "silent",
        "stereo.wav": "channels",
        "text.wav": "unreadable",
    }
    assert found["fast.wav"][1] == "16000 Hz, expected 8000 Hz as most files have; --rate resamples"
    assert found["stereo.wav"][1] == "2, expected 1 as most files have; --channels 1 mixes them"
    assert found["short.wav"][1] == "0.009875 s, expected 0.01 s or more"
    assert "dB of full scale" in found["silent.wav"][1]


def test_a_rate_resamples_without_aliases(tmp_path: Path) -> None:
    """What the new rate can hold stays as it was; what it cannot is gone rather than folded back."""
    save(tmp_path / "in" / "a_kept.wav", sine(3000, 44100), 44100, "FLOAT")
    save(tmp_path / "in" / "b_kept.wav", sine(3000, 22050), 22050, "FLOAT")
    save(tmp_path / "in" / "c_gone.wav", sine(9000, 44100) * np.hanning(22050), 44100, "FLOAT")
    save(tmp_path / "in" / "d_up.wav", sine(1000, 4000), 4000, "FLOAT")
    manifest, sounds, _ = made(tmp_path / "in", SoundForm(rate=16000))
    assert manifest.fields["audio"] == FieldSpec("audio", (1, 8000), "float32", rate=16000, codec="wav")
    assert manifest.protocol.startswith("sounds resampled to 16000 Hz, of 1 channels")
    inner = slice(400, -400)  # the ends of a sine are steps
    for place, hertz in ((0, 3000), (1, 3000), (2, 1000)):
        assert np.abs(sounds[place, 0] - sine(hertz, 16000))[inner].max() < 1e-4
    assert rejected(tmp_path / "set").keys() == {"c_gone.wav"}  # as silent: damped by 90 dB


def test_an_excerpt_is_what_the_whole_recording_would_have_there(tmp_path: Path) -> None:
    save(tmp_path / "long.wav", noise(44100), 44100)
    ratio = Ratio.between(44100, 16000)
    with soundfile.SoundFile(tmp_path / "long.wav") as file:
        whole = excerpt(file, ratio, 0, 10**9)
        assert len(whole) == 16000
        for first in (0, 1, 7777, 15000):
            part = excerpt(file, ratio, first, 1500)
            assert np.abs(part - whole[first : first + 1500]).max() < 1e-12


def test_recordings_are_cut_by_the_rule_that_is_asked_for(tmp_path: Path) -> None:
    wave = noise(1000)
    save(tmp_path / "in" / "x" / "long.wav", wave)
    save(tmp_path / "in" / "y" / "short.wav", wave[:200])
    short = [*wave[:200, 0].tolist(), *[0] * 200]
    for cut, expected in {
        "first": [wave[:400], short],
        "center": [wave[300:700], short],
        "windows": [wave[:400], wave[400:800], short],
    }.items():
        place = tmp_path / cut
        place.mkdir()
        (place / "in").symlink_to(tmp_path / "in")
        manifest, sounds, labels = made(place / "in", SoundForm(seconds=0.05, cut=cut))  # type: ignore[arg-type]
        assert sounds[:, 0].tolist() == [np.ravel(one).tolist() for one in expected]
        assert manifest.classes == ("x", "y")
        assert np.bincount(labels).tolist() == [len(expected) - 1, 1]


def test_channels_are_mixed_or_repeated(tmp_path: Path) -> None:
    wave = noise(300, 2)
    save(tmp_path / "in" / "a.wav", wave)
    save(tmp_path / "in" / "b.wav", wave[:, :1])
    manifest, sounds, _ = made(tmp_path / "in", SoundForm(channels=1), channels=1)
    assert manifest.fields["audio"].shape == (1, 300)
    assert np.abs(sounds[0, 0] - wave.mean(1)).max() <= 0.5
    assert sounds[1, 0].tolist() == wave[:, 0].tolist()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "in").symlink_to(tmp_path / "in")
    _, sounds, _ = made(tmp_path / "two" / "in", SoundForm(channels=2), channels=2)
    assert sounds[0].T.tolist() == wave.tolist()
    assert sounds[1].tolist() == [wave[:, 0].tolist()] * 2


def test_classes_come_from_a_table_and_from_folders_in_a_zip(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for number in range(4):
            save(tmp_path / "in" / f"{number}.ogg", sine(300 + 100 * number, 8000), 8000)
            archive.write(tmp_path / "in" / f"{number}.ogg", f"wavs/{'ab'[number % 2]}/{number}.ogg")
    rows = [f"{number}.ogg,{'high' if number > 1 else 'low'}" for number in range(4)]
    (tmp_path / "in" / "labels.csv").write_text("\n".join(["file,label", *rows]))
    (tmp_path / "in" / "0.txt").write_text("a low hum")
    manifest, sounds, _ = made(tmp_path / "in")
    assert manifest.classes == ("high", "low")
    assert manifest.stored == ("audio", "text")
    assert manifest.fields["audio"] == FieldSpec("audio", (1, 4000), "int16", rate=8000, codec="flac")
    assert np.abs(sounds[0, 0] / 32768 - sine(300, 8000)).max() < 0.1  # Vorbis is lossy
    source = open_source(str(tmp_path / "in.zip"))
    assert source.classes == ("a", "b")
    assert source.read(source.items[0].where).shape == (1, 4000)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (SoundForm(rate=0), "--rate 0: expected samples per second"),
        (SoundForm(seconds=-1), "--seconds -1: expected the length"),
        (SoundForm(cut="last"), "--cut last: choose one of first, center, windows"),  # type: ignore[arg-type]
        (SoundForm(cut="windows"), "--cut windows needs the windows' length"),
        (SoundForm(channels=99), "--channels 99: sounds have 1 to 64"),
    ],
)
def test_a_form_that_makes_no_sense_is_one_line(tmp_path: Path, form: SoundForm, words: str) -> None:
    save(tmp_path / "in" / "a.wav", noise(300))
    with pytest.raises(DataError, match=words):
        open_source(str(tmp_path / "in"), sounds=form)


def test_images_have_no_rate(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((4, 2), np.float32))
    with pytest.raises(DataError, match="--rate, --seconds and --cut are for sound files"):
        open_source(str(tmp_path / "rows.npy"), sounds=SoundForm(rate=8000))


KIT = """<?xml version="1.0"?><drumkit_info xmlns="http://www.hydrogen-music.org/drumkit"><instrumentList>{}</instrumentList>
</drumkit_info>"""
INSTRUMENT = "<instrument><name>{}</name><layer><filename>{}.wav</filename></layer></instrument>"


def debian_package(path: Path, files: dict[str, bytes]) -> Archive:
    """Write a package of these files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    content = b"!<arch>\n"
    for name, member in {"debian-binary": b"2.0\n", "data.tar.xz": data.getvalue()}.items():
        content += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(member):<10}`\n".encode() + member
        content += b"\n" * (len(member) % 2)
    path.write_bytes(content)
    return Archive(f"http://localhost/{path.name}", hashlib.sha256(content).hexdigest())


def wav(hertz: float) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, sine(hertz, 8000, 0.05), 8000, format="WAV")
    return stream.getvalue()


def test_drums_are_those_that_the_kits_name(tmp_path: Path) -> None:
    names = ["Kick 1", "Custom Ride", "Floor Tom", "Hat Closed", "Snare", "Cowbell"]
    kits = {
        kit: KIT.format("".join(INSTRUMENT.format(name, name) for name in named))
        for kit, named in {"Some Kit": names, "VariBreaks": [*names[:2], "Kick gone"]}.items()
    }
    files = {f"usr/share/hydrogen/data/drumkits/{kit}/drumkit.xml": text.encode() for kit, text in kits.items()}
    for kit in kits:
        for number, name in enumerate(names):
            files[f"usr/share/hydrogen/data/drumkits/{kit}/{name}.wav"] = wav(100 * (number + 1))
    package = debian_package(tmp_path / "drums.deb", files)
    train, test = (
        drums.drums(split, SoundForm(rate=4000), package=package, cache=tmp_path) for split in ("train", "test")
    )
    assert {item.name: train.classes[item.label] for item in train.items} == {
        "Some Kit/Custom Ride.wav": "cymbal",
        "Some Kit/Floor Tom.wav": "tom",
        "Some Kit/Hat Closed.wav": "hi-hat",
        "Some Kit/Kick 1.wav": "kick",
        "Some Kit/Snare.wav": "snare",
    }
    assert [item.name for item in test.items] == ["VariBreaks/Kick 1.wav", "VariBreaks/Custom Ride.wav"]
    assert "Kick gone" in test.notes[0]
    assert train.fields["audio"] == FieldSpec("audio", (1, 200), "int16", rate=4000, codec="flac")
    assert pickle.loads(pickle.dumps(train.reader)).read(train.items[0].where).shape == (1, 200)
    with pytest.raises(DataError, match=r"none\.deb: contains no drums"):
        drums.drums(package=debian_package(tmp_path / "none.deb", {"note": b""}), cache=tmp_path)


def test_syllables_are_divided_by_syllable(tmp_path: Path) -> None:
    names = [
        f"{first}{final}{tone}"
        for first in "ㄅㄆㄇ"
        for final in "ㄚㄛㄜㄝㄞㄟㄠㄡㄢㄣㄤㄥ"
        for tone in ("", "2", "3", "4")
    ]
    files = {f"usr/share/gcin-voice/ogg/{name}/{who}.ogg": wav(300) for name in names for who in "35"}
    package = debian_package(tmp_path / "voice.deb", files)
    train, test = (syllables.syllables(split, package=package, cache=tmp_path) for split in ("train", "test"))
    assert len(train.items) + len(test.items) == len(files)
    assert 0 < len(test.items) < len(train.items)
    bases = [{item.name[:2] for item in source.items} for source in (train, test)]
    assert not bases[0] & bases[1]
    assert np.bincount([item.label for item in test.items]).tolist() == [len(test.items) // 4] * 4

"""Each command of docs/how-to/tasks.md runs, on small data and networks: a run a task, which the others go on from."""

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from bigtrain.cli import main
from data_pipelines import prepare
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.prepare.arrays import from_arrays, from_fields
from data_pipelines.source import Source
from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(900)
IMAGE = FieldSpec("image", (3, 64, 64), "uint8", codec="png")
FIELDS = {
    "emoji-lines": ("input", "target"),
    "earth": ("input", "target"),
    "emoji-2d": ("image",),
    "emoji-3d": ("image",),
    "photos": ("image",),
}
"""The fields of each named set that the page prepares."""

SMALL: Mapping[str, Any] = {
    "total_kimg": 0.032,
    "generator.width": 4,
    "discriminator.width": 4,
    "log.interval_kimg": 0.016,
    "preview.interval_kimg": 0.032,
    "eval.interval_kimg": 0.032,
    "eval.samples": 8,
    "eval.reference_samples": 24,
    "checkpoint.interval_kimg": 0.032,
    "snapshot.interval_kimg": 0.032,
    "health.features_kimg": 0,
    "health.images": 8,
    "health.neighbours": 8,
    "tracking.mlflow": False,
    "tracking.system_seconds": 0,
}


PAGE = (ROOT / "docs" / "how-to" / "tasks.md").read_text()
SECTIONS = {
    section.partition("\n")[0]: section for section in re.split(r"^## ", PAGE, flags=re.M) if "```sh" in section
}


def commands(section: str) -> list[list[str]]:
    """Return the words of each command of a section of the page."""
    blocks = re.findall(r"```sh\n(.*?)```", SECTIONS[section], re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith(("bigtrain ", "python scripts/"))]


def small_source(name: str) -> Source:
    drawn = np.random.default_rng(0)
    if name == "photos":  # which, like the real set, is resized where the page asks for it
        return from_arrays(name, drawn.integers(0, 256, (40, 3, 128, 128), dtype=np.uint8))
    pictures = drawn.integers(0, 256, (2, 40, *IMAGE.shape), dtype=np.uint8)
    return from_fields(name, dict(zip(FIELDS[name], pictures, strict=False)), dict.fromkeys(FIELDS[name], IMAGE))


def write_small_config(name: str) -> None:
    config = yaml.safe_load((ROOT / name).read_text())
    patches = {"discriminator.layers": 1} if innermost(config["discriminator"])[0]["kind"] == "patch" else {}
    for key, value in {**SMALL, **patches}.items():
        *path, last = key.split(".")
        part = config
        for step in path:
            part = part.setdefault(step, {})
        for network in innermost(part):
            if last == "width" and network.get("kind") == "stylegan2":
                network["channel_base"] = 256
            else:
                network[last] = value
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(yaml.safe_dump(config))


def innermost(network: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the configs of the networks that others wrap."""
    wrapped = [part for part in network.values() if isinstance(part, dict) and part.get("kind") and "kind" in network]
    return [found for part in wrapped for found in innermost(part)] or [network]


def run_here(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    "section", [one if one == "Unpaired: CycleGAN" else pytest.param(one, marks=pytest.mark.slow) for one in SECTIONS]
)
def test_each_command_runs(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in FIELDS:
        monkeypatch.setitem(prepare.NAMED_SOURCES, name, lambda split, name=name: small_source(name))
    for folder, size in (
        ("DRAWINGS", (64, 64)),
        ("PICTURES", (50, 70)),
        ("SMALL_PHOTOS", (17, 21)),
        ("PHOTOS", (50, 70)),
        ("GREY_DRAWINGS", (64, 64)),
    ):
        Path(folder).mkdir()
        Image.new("RGB", size, "red").save(Path(folder) / "one.png")
    Image.new("RGB", (40, 40), "green").save("STYLE.png")
    Path("LABEL_MAPS").mkdir()
    Image.new("L", (64, 64), 3).save("LABEL_MAPS/one.png")
    Path("PNGS_WITH_TRANSPARENT_PLACES").mkdir()
    holed = Image.new("RGBA", (64, 64), "red")
    holed.paste((0, 0, 0, 0), (8, 8, 24, 24))
    holed.save("PNGS_WITH_TRANSPARENT_PLACES/one.png")
    seen = set()
    for words in commands(section):
        seen.add(words[1])
        for name in words:
            if name.startswith("configs/"):
                write_small_config(name)
        if words[0] == "python":
            command = [sys.executable, str(ROOT / words[1]), *words[2:], "--each", "10"]
            assert subprocess.run(command, capture_output=True, text=True).returncode == 0, words
        elif words[1] == "train":
            command = [str(Path(sys.executable).parent / "bigtrain"), *words[1:]]
            done = subprocess.run(command, capture_output=True, text=True)
            assert (done.returncode, done.stderr) == (0, ""), words
        else:
            assert run_here(words, monkeypatch) == 0, (words, capfd.readouterr())
        if words[1] == "apply":
            out = Path(words[words.index("--out") + 1])
            assert list(out.rglob("*.png")), words
            assert "could not be read" not in capfd.readouterr().out
    assert {"data", "train"} <= seen
    assert seen & {"apply", "sample"}
    if section == "Unpaired: CycleGAN":
        with Image.open("drawn/one.png") as picture:
            assert picture.size == (50, 70), "images of any size"

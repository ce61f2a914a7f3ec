"""The tutorials run as they are written. Several continue the first one, and share its run."""

import json
import re
from pathlib import Path

import pytest

from bigtrain.config import load_training
from tests.conftest import ROOT
from tests.integration.tutorials import PAGES, blocks_of, run_page
from tests.unit.interop.nvidia_pickles import write_published_file

pytestmark = pytest.mark.timeout(600)

CONTINUING = ("health-report", "slurm", "conditions", "limited-data", "fine-tuning", "sweep")
OTHERS = ("your-images", "pairs")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of somebody who has done the first tutorial."""
    folder = tmp_path_factory.mktemp("tutorial")
    run_page("your-images", folder)
    return folder


def test_your_images(first: Path) -> None:
    for made in (
        "samples.png",
        "generator.safetensors",
        "runs/pictures/report.html",
        "data/pictures/contact_sheet.png",
    ):
        assert (first / made).is_file(), made


@pytest.mark.parametrize("page", CONTINUING)
def test_a_page_that_continues_the_first(first: Path, page: str) -> None:
    if page == "fine-tuning":
        write_published_file(first / "faces.pkl")
    run_page(page, first)
    if page == "fine-tuning":
        report = json.loads((first / "runs" / "finetuned" / "health.json").read_text())
        states = {finding["symptom"]: finding["state"] for finding in report["symptoms"]}
        assert states["dead_units"] == "ok", "what is frozen is not dead"


def test_pairs(tmp_path: Path) -> None:
    run_page("pairs", tmp_path)
    assert len(list((tmp_path / "coloured").glob("*.png"))) == 120


def test_every_page_with_commands_is_run() -> None:
    with_commands = {
        path.stem for path in PAGES.glob("*.md") if any(block.language == "sh" for block in blocks_of(path.stem))
    }
    assert with_commands == {*CONTINUING, *OTHERS}


def _overrides_of_moving() -> list[tuple[str, str]]:
    """Return the base config and the override of each row of the tables of `moving`."""
    found, base = [], ""
    for line in (PAGES / "moving.md").read_text().splitlines():
        if match := re.fullmatch(r"<!-- base: (.*) -->", line):
            base = match[1]
        if match := re.match(r"\| `.*` \| `([\w.]+=.*?)` \|", line):
            found.append((base, match[1]))
    return found


@pytest.mark.parametrize(("base", "override"), _overrides_of_moving())
def test_a_key_that_a_flag_becomes_exists(base: str, override: str) -> None:
    loaded = load_training(ROOT / base, [override])
    assert loaded.task == "synthesis"


def test_the_files_of_the_example_package_are_those_of_the_page() -> None:
    shown = {block.file: block.text for block in blocks_of("extending-from-outside") if block.file}
    assert len(shown) == 4
    for name, text in shown.items():
        assert text == (ROOT / "tests" / name).read_text(), name

"""The configs of runs in configs/ with their headers, and pictures of those that were run here."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PICTURES = {
    "quickstart": "quickstart.png",
    "pix2pix-earth64": "pix2pix-earth.png",
    "pix2pix-emoji64": "pix2pix.png",
    "cyclegan-emoji64": "cyclegan.png",
    "wavegan-drums8k": "drums.png",
}
"""Of recipes that were trained here, in docs/images."""

INTRODUCTION = """# Recipes

`configs/` contains one folder for each task, and `quickstart.yaml`. Every file is a complete config. Its header
contains the commands, the source of the settings, the expected result, and what was verified. The recipes with a
picture were trained by this project, and the picture shows their outputs. Most of the large recipes have not been
trained, and their headers say so.

"""


def recipes_page() -> str:
    """Return the page as Markdown."""
    recipes = [path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "sweeps"]
    recipes.sort(key=lambda path: (path.stem not in PICTURES, path.stem))
    found = [(path, path.read_text(encoding="utf-8")) for path in recipes]
    rows = ["| recipe | task | generator | resolution | kimg | verified |", "|---|---|---|---|---|---|"]
    rows += [_row(path.stem, yaml.safe_load(text), _verified(path.name, text)) for path, text in found]
    return INTRODUCTION + "\n".join(rows) + "\n" + "".join(_section(path.stem, text) for path, text in found)


def _row(name: str, config: dict[str, Any], verified: str) -> str:
    data = config["data"]
    streams = data.get("streams", {"": data})
    resolution = next(iter(streams.values())).get("resolution", 1)
    size = resolution if resolution > 1 else ""  # of sounds it is 1, or not stated
    kind, kimg = config["generator"]["kind"], config["total_kimg"]
    return f"| [{name}](#{name}) | {config['task']} | `{kind}` | {size} | {kimg:g} | {verified} |"


def _verified(name: str, text: str) -> str:
    """Return what a recipe's header says of its verification, up to the first comma or full stop.

    Raises:
        ValueError: the header does not say it.
    """
    header = " ".join(line.removeprefix("#").strip() for line in text.partition("\nrun_dir:")[0].splitlines())
    found = re.search(r"Verified: (.+?)(?:[,;.] |\.?$)", header)
    if not found:
        raise ValueError(f"configs/{name}: its header has no line that begins with 'Verified:'")
    return found[1].replace("the plan below", "its plan; not trained")


def _section(name: str, text: str) -> str:
    header = [line.removeprefix("#").removeprefix(" ") for line in text.partition("\nrun_dir:")[0].splitlines()]
    picture = f"\n![Outputs of {name}](../images/{PICTURES[name]})\n" if name in PICTURES else ""
    return f"\n## {name} {{ #{name} }}\n{picture}\n```text\n" + "\n".join(header) + "\n```\n"

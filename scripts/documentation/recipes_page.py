"""The configs of runs in configs/ with their headers, and pictures of those that were run here."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "images"
"""A picture (.png, .gif or .jpg) here that has the name of a recipe shows outputs of a training of this recipe."""

INTRODUCTION = """# Recipes and gallery

`configs/` contains one folder for each task, and `quickstart.yaml`. Every file is a complete config. Its header
contains the commands, the source of the settings, the expected result, and what was verified. Most of the large
recipes have not been trained, and their headers say so.

## Gallery

These recipes were trained by this project. The pictures show their outputs, and lead to the recipes.

"""


def recipes_page() -> str:
    """Return the page as Markdown."""
    pictures = {path.stem: path.name for path in PICTURES.iterdir() if path.suffix in (".png", ".gif", ".jpg")}
    recipes = [path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "sweeps"]
    recipes.sort(key=lambda path: (path.stem not in pictures, path.stem != "quickstart", path.stem))
    found = [(path, path.read_text(encoding="utf-8")) for path in recipes]
    gallery = "".join(_card(path.stem, pictures[path.stem]) for path in recipes if path.stem in pictures)
    rows = [
        "## All recipes",
        "",
        "| recipe | task | generator | resolution | kimg | verified |",
        "|---|---|---|---|---|---|",
    ]
    rows += [_row(path.stem, yaml.safe_load(text), _verified(path.name, text)) for path, text in found]
    sections = "".join(_section(path.stem, text, pictures.get(path.stem)) for path, text in found)
    return f'{INTRODUCTION}<div class="gallery" markdown>\n{gallery}</div>\n\n' + "\n".join(rows) + "\n" + sections


def _card(name: str, picture: str) -> str:
    return f"[![Outputs of {name}](../images/{picture}) {name}](#{name})\n{{ .card }}\n\n"


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


def _section(name: str, text: str, picture: str | None) -> str:
    header = [line.removeprefix("#").removeprefix(" ") for line in text.partition("\nrun_dir:")[0].splitlines()]
    shown = f"\n![Outputs of {name}](../images/{picture})\n" if picture else ""
    return f"\n## {name} {{ #{name} }}\n{shown}\n```text\n" + "\n".join(header) + "\n```\n"

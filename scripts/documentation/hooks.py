"""What mkdocs does besides: pages from the code, and pages that stand elsewhere in the repository.

Links in the Markdown files are relative to the files, so that they work in the repository. A link that leaves `docs/`
is replaced by one to the page that shows the file; where the site does not show it, `mkdocs build --strict` fails.
"""

import os
import re
from pathlib import Path, PurePosixPath

from commands_page import commands_page
from config_page import config_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from recipes_page import recipes_page

ROOT = Path(__file__).parents[2]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
ELSEWHERE = {
    **{f"benchmarks/{path.name}": f"benchmarks/{path.name}" for path in sorted((ROOT / "benchmarks").glob("*.md"))},
    **{f"benchmarks/{path.name}": f"benchmarks/{path.name}" for path in sorted((ROOT / "benchmarks").glob("*.png"))},
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "CHANGELOG.md": "project/changelog.md",
}
"""Files of the repository outside of docs/ that the site shows, and under which name."""

GENERATED = {
    "reference/config.md": config_page,
    "reference/commands.md": commands_page,
    "reference/recipes.md": recipes_page,
}
_ORIGINS = {page: path for path, page in ELSEWHERE.items()}
_LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_BENCHMARK = re.compile(r"(?<!\[)`(benchmarks/\w+\.md)`")
_DECISION = re.compile(r"(?<!\[)\bdecision (\d+)\b")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not files of docs/."""
    for path, page in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    for page, make in GENERATED.items():
        files.append(File.generated(config, page, content=make()))
    files.append(File.generated(config, "decisions/index.md", content=_index("Decisions", DECISIONS)))
    benchmarks = sorted((ROOT / "benchmarks").glob("*.md"))
    files.append(File.generated(config, "benchmarks/index.md", content=_index("Benchmarks", benchmarks)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to where the site shows their files, and link what the text only names."""
    here = page.file.src_uri
    parts = _FENCE.split(markdown)
    return "".join(part if part.startswith("```") else _linked(part, here) for part in parts)


def _linked(text: str, here: str) -> str:
    origin = PurePosixPath(_ORIGINS.get(here, f"docs/{here}")).parent
    text = _LINK.sub(lambda match: match[1] + _target(match[2], origin, here) + match[3], text)
    folder = os.path.dirname(here)  # noqa: PTH120 - a name within the site
    text = _BENCHMARK.sub(
        lambda match: f"[`{match[1]}`]({os.path.relpath(match[1], folder)})" if match[1] in ELSEWHERE else match[0],
        text,
    )
    by_number = {int(path.name[:4]): f"decisions/{path.name}" for path in DECISIONS}
    return _DECISION.sub(
        lambda match: (
            f"[decision {match[1]}]({os.path.relpath(by_number[int(match[1])], folder)})"
            if int(match[1]) in by_number
            else match[0]
        ),
        text,
    )


def _target(link: str, origin: PurePosixPath, here: str) -> str:
    path = os.path.normpath(origin / link)
    shown = path.removeprefix("docs/") if path.startswith("docs/") else ELSEWHERE.get(path)
    return link if shown is None else os.path.relpath(shown, os.path.dirname(here))  # noqa: PTH120


def _index(title: str, pages: list[Path]) -> str:
    lines = [f"# {title}", "", INTRODUCTIONS[title], ""]
    for path in pages:
        heading = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        lines.append(f"- [{heading}]({path.name})")
    return "\n".join(lines) + "\n"


INTRODUCTIONS = {
    "Decisions": "Each page records a decision: the problem, what was decided and why, and what was measured.",
    "Benchmarks": "What was measured, with the command, the machine and the date; other pages quote these numbers.",
}

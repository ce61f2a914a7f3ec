"""Messages and help texts use the words of PyTorch's documentation, not idioms that this project once used."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
IDIOMS = re.compile(
    r"\b(mends?|go(es)? on (from|with)|afresh|is no (name|file|multiple|number|time) |left aside|put together|lies in|"
    r"turned round|looks at|strangers?|done again|will hurt|in peace|no word|say so|said yet|not understood|are told|"
    r"come with a package|whole (gzip|zip|tar|checkpoint))\b"
)
SHOWN = re.compile(r"\w*(Error|Rejected|Requirement|Hazard)|Option|Argument|echo|print_line|info|warning|error")
"""Names of what is called with a text for the user."""


def _texts(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if SHOWN.fullmatch(name):
                parts = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant))
                yield node.lineno, "".join(part for part in parts if isinstance(part, str))


def test_no_message_uses_an_idiom() -> None:
    found = []
    for folder in ("bigtrain", "data_pipelines", "launch"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            if IDIOMS.search(source):  # parsing every file would take seconds
                found += [f"{path.name}:{line}: {text}" for line, text in _texts(source) if IDIOMS.search(text)]
    assert found == []


def test_an_idiom_would_be_found() -> None:
    assert any(IDIOMS.search(text) for _, text in _texts('raise DataError(f"{path}: not a whole zip ({error})")'))

"""Lay a report out as one HTML page that asks for nothing from anywhere."""

import base64
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from bigtrain.core.errors import UserError
from bigtrain.report import facts
from bigtrain.report.charts import COLOURS, charts
from bigtrain.report.runs import Picture, Run, differing
from data_pipelines.files import atomic_write
from data_pipelines.pictures import OWN_FORMATS, ImageFileError, open_picture

_WIDTH = 900
"""Pixels of a picture, at most."""
_PLAYED = {".wav": "audio/wav", ".mp4": "video/mp4"}
"""Types of recordings."""
_RECORDED = 16 << 20
"""Bytes of the recordings of one key and run, at most; a single one may be longer."""


def write_page(runs: Sequence[Run], out: Path, *, price: float | None = None, pictures: int = 12) -> None:
    """Write a report.

    Args:
        runs: one or several, side by side.
        out: the HTML file.
        price: of an hour of one device; None if it is not known.
        pictures: of each kind and run, at most: evenly over the run, the first and the last among them; fewer where
            sounds or films would make the page too large.
    """
    environment = Environment(loader=PackageLoader("bigtrain.report", "."), autoescape=True, undefined=StrictUndefined)
    configs = [run.config for run in runs]
    names = {run.dataset.get("name", "") for run in runs} - {""}
    sections = charts(runs)
    document = {"sections": sections, "pictures": _pictures(runs, pictures)}
    page = environment.get_template("page.html").render(
        title=runs[0].name if len(runs) == 1 else f"{len(runs)} runs",
        subtitle=" and ".join(sorted(names)),
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        runs=[{"name": run.name, "colour": COLOURS[n % len(COLOURS)], "run": run} for n, run in enumerate(runs)],
        outcome=facts.outcome(runs),
        cost=facts.cost(runs, price),
        hardware=facts.hardware(runs),
        differing=_table(runs, differing(configs)),
        settings=_table(runs, sorted(set().union(*configs))),
        sections=sections,
        keys=list(document["pictures"]),
        # What stands in the page as it is: numbers without "<", and code that comes with bigtrain and Plotly.
        document=Markup(_safe(document)),  # noqa: S704
        style=Markup(_own("page.css")),  # noqa: S704
        script=Markup(_own("page.js")),  # noqa: S704
        plotly=Markup(get_plotlyjs()),  # noqa: S704
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as file:
        file.write(page.encode())


def _table(runs: Sequence[Run], keys: Sequence[str]) -> list[facts.Row]:
    return [facts.Row(key, [_brief(run.config.get(key)) for run in runs]) for key in keys]


def _brief(value: Any) -> str:
    return "–" if value is None else json.dumps(value) if isinstance(value, list | bool) else str(value)


def _pictures(runs: Sequence[Run], count: int) -> dict[str, list[list[dict[str, Any]]]]:
    """Return pictures by key: for each run, in order, `kimg` and `source`."""
    keys = sorted({picture.key for run in runs for picture in run.pictures}, key=lambda key: ("fakes" not in key, key))
    return {
        key: [
            [{"kimg": picture.kimg, "source": _embed(picture)} for picture in _spread(run.pictures, key, count)]
            for run in runs
        ]
        for key in keys
    }


def _spread(pictures: Sequence[Picture], key: str, count: int) -> list[Picture]:
    """Return so many of a key's pictures, evenly over the run and up to the last; of recordings what the page bears."""
    mine = [picture for picture in pictures if picture.key == key]
    sizes = {picture.file: picture.file.stat().st_size for picture in mine if picture.file.suffix in _PLAYED}
    for number in range(min(count, len(mine)), 1, -1):
        chosen = [mine[round(place * (len(mine) - 1) / (number - 1))] for place in range(number)]
        if sum(sizes.get(picture.file, 0) for picture in chosen) <= _RECORDED:
            return chosen
    return mine[-1:]


def _embed(picture: Picture) -> str:
    if (played := _PLAYED.get(picture.file.suffix)) is not None:
        return f"data:{played};base64,{base64.b64encode(picture.file.read_bytes()).decode()}"
    stream = io.BytesIO()
    try:
        with open_picture(picture.file, formats=OWN_FORMATS) as image:
            image.thumbnail((_WIDTH, 4 * _WIDTH))
            image.convert("RGB").save(stream, "WEBP", quality=88)
    except ImageFileError as error:
        raise UserError(f"{picture.file}: {error}; remove it, and the report is made without it") from None
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _safe(document: Any) -> str:
    """Return JSON that may stand inside a script element."""
    return json.dumps(document, separators=(",", ":")).replace("<", "\\u003c")


def _own(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")

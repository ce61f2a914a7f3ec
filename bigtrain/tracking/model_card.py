"""The card of a model: what it is, what it was made of, how good it is, what it is for and what not."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigtrain.tracking.spool import FILE_NAME, read_curves, read_records
from data_pipelines.secrets import hide_secrets


@dataclass(frozen=True)
class CardScore:
    """A score of a snapshot.

    Attributes:
        name: such as `eval/fid50k_full`.
        value: the number.
        protocol: a hash of all that the number depends on besides the generator; None where none was written.
    """

    name: str
    value: float
    protocol: str | None

    @property
    def words(self) -> str:
        """The protocol for people: its stamp, or that the name must do."""
        return f"`{self.protocol}`" if self.protocol else "as its name says"


def scores_of(run: Path, description: Mapping[str, Any], kimg: float) -> list[CardScore]:
    """Return the scores of a snapshot: those written in it, else those of the run at its place."""
    written = description.get("scores")
    if isinstance(written, Mapping) and written:
        return [
            CardScore(name, float(entry["value"]), entry.get("protocol", {}).get("stamp"))
            if isinstance(entry, Mapping)
            else CardScore(name, float(entry), None)
            for name, entry in written.items()
        ]
    return [
        CardScore(name, points[-1][1], None)
        for name, points in sorted(read_curves(run).items())
        if name.startswith("eval/") and points[-1][0] == kimg and not name.endswith(("_low", "_high"))
    ]


def fid_of(scores: list[CardScore]) -> CardScore | None:
    """Return the score that champions are chosen by: the first Fréchet distance."""
    return next((score for score in scores if score.name.startswith("eval/fid")), None)


def write_card(
    title: str, run: Path, image: Mapping[str, Any], description: Mapping[str, Any], scores: list[CardScore]
) -> str:
    """Return the card as Markdown; its picture is `samples.png` beside it.

    Args:
        title: name of the model.
        run: folder of the run that made it.
        image: resolution, channels, classes.
        description: the rest of the snapshot's.
        scores: of it.
    """
    start = next((record for record, _ in read_records(run / FILE_NAME, kinds=("start",))), {})
    sections = [
        _what_it_is(title, image, description),
        _data(start.get("dataset", {}), image, description),
        _scores(scores),
        [
            "## Intended use",
            "",
            "Research on generative models, and pictures where nobody takes them for photographs. Decisions about "
            "people, and anything that presents its images as records of real things, are out of its scope.",
        ],
        [
            "## Limits",
            "",
            "- It shows what its training data show, with their gaps and biases, and rare things worse than common "
            "ones.",
            "- Images may resemble training images; the licence of those should be read with that in mind.",
            "- The programs of this model compute on the CPU; the noise of a style-based generator is the constant "
            "one.",
            *_findings(run),
        ],
        _origin(run),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _what_it_is(title: str, image: Mapping[str, Any], description: Mapping[str, Any]) -> list[str]:
    classes, width = image.get("classes", 0), image.get("width") or image["resolution"]
    return [
        f"# {title}",
        "",
        f"A generative adversarial network that makes {image['resolution']}×{width} images with {image['channels']} "
        f"channel{'s' * (image['channels'] > 1)}{f' of {classes} classes' if classes else ''}. These are the averaged "
        f"weights (EMA) after {description.get('samples_seen', 0) / 1000:g} kimg of training with bigtrain.",
        "",
        "![samples](samples.png)",
        "",
        "## Use",
        "",
        "A table with a column `seed` (or `z`, lists of "
        f"{description['z_dim']} numbers), and if wanted `class` (index) and `truncation` (1: the whole distribution, "
        "less: fewer surprises). The answer is uint8 `[N, H, W, C]`, or PNG files in base64 with the parameter "
        "`format=png`.",
    ]


def _data(data: Mapping[str, Any], image: Mapping[str, Any], description: Mapping[str, Any]) -> list[str]:
    names = ", ".join(description.get("class_names", [])[:20])
    return [
        "## Data",
        "",
        f"- set: {data.get('name', description.get('dataset', 'not stated'))}",
        *([f"- source: {hide_secrets(data['source'])}"] if "source" in data else []),
        f"- licence of the images: {_licence(data) or 'not stated'}",
        f"- digest of the manifest: `{data.get('digest', 'not stated')}`",
        *([f"- classes: {names}{' …' if image.get('classes', 0) > 20 else ''}"] if names else []),
    ]


def _scores(scores: list[CardScore]) -> list[str]:
    return [
        "## Scores",
        "",
        "| score | value | protocol |",
        "|---|---|---|",
        *[f"| {score.name.removeprefix('eval/')} | {score.value:.4g} | {score.words} |" for score in scores],
        *([] if scores else ["| none was made of this snapshot | | |"]),
        "",
        "Scores can be compared only where dataset, protocol and name are the same.",
    ]


def _origin(run: Path) -> list[str]:
    environment = _json(run / "environment.json")
    return [
        "## Origin",
        "",
        f"- run: `{run.resolve().name}`, code: `{environment.get('git_commit') or 'not stated'}`"
        f"{' with local changes' if environment.get('git_dirty') else ''}",
        f"- command: `{environment.get('command', 'not stated')}`",
    ]


def _findings(run: Path) -> list[str]:
    """Return the symptoms of the last health report, if there are any."""
    symptoms = _json(run / "health.json").get("symptoms", [])
    ill = [line for line in symptoms if line["state"] in ("warning", "critical")]
    return [f"- At the end of the training, {line['symptom']} was {line['state']}: {line['evidence']}." for line in ill]


def _licence(data: Mapping[str, Any]) -> str | None:
    """Return the licence that the run reported, else that of the manifest, if it is still where the run read it."""
    profile = data.get("profile")
    if isinstance(profile, Mapping) and profile.get("licence"):
        return str(profile["licence"])
    return _json(Path(data.get("folder", "")) / "manifest.json").get("licence")


def _json(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return document

"""Write the tables of what bigtrain contains into README.md and docs/reference/contents.md, from its registries.

python scripts/contents_table.py          # rewrite the part of each file between the two markers
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from bigtrain.augment import AugmentConfig
from bigtrain.augment.derived import DERIVED
from bigtrain.config import TRAININGS
from bigtrain.core.schedules import Schedule
from bigtrain.engine.optimizers import OptimizerConfig
from bigtrain.evaluation.extractors import EXTRACTORS
from bigtrain.evaluation.fid import PAIRED
from bigtrain.evaluation.metrics import METRICS
from bigtrain.models import DISCRIMINATORS, GENERATORS, PATCH_DISCRIMINATORS, STYLISERS, TRANSLATORS
from bigtrain.objectives.adversarial import GAMES
from bigtrain.strategies.by_player import AnyStrategy
from bigtrain.sweep.schedulers import AnyScheduler
from bigtrain.sweep.searchers import AnySearcher
from bigtrain.tasks.stylisation import StylisationTermsConfig
from bigtrain.tasks.terms import TermsConfig
from bigtrain.tasks.translation_objective import TranslationTermsConfig
from bigtrain.tasks.unpaired import UnpairedTermsConfig
from data_pipelines.fields.registry import KINDS as FIELD_KINDS
from data_pipelines.prepare import KINDS as SOURCES

ROOT = Path(__file__).parent.parent
README, PAGE = ROOT / "README.md", ROOT / "docs" / "reference" / "contents.md"
BEGIN, END = "<!-- contents: written by scripts/contents_table.py -->", "<!-- /contents -->"
EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "tasks": (),
    "generators": ("biggan", "stylegan2", "stylegan3", "r3gan", "pix2pix_unet", "rrdb", "hifigan", "mocogan"),
    "adversarial losses": ("non_saturating", "wasserstein", "hinge", "relativistic_pairing"),
    "other loss terms": ("r1", "wgan_gp", "path_length", "lecam", "feature_matching", "perceptual", "cycle"),
    "distributed strategies": (),
    "metrics": ("fid", "kid", "precision_recall", "inception_score", "lpips", "psnr"),
    "data sources": ("folder", "webdataset", "parquet", "hdf5", "lmdb", "huggingface", "sounds", "videos"),
}
"""The rows of README's table, and the names that it quotes of each; all of them where none is chosen."""


def kinds(union: Any) -> Iterator[str]:
    """Yield the values of `kind` that a union of configs accepts, in its order."""
    for part in get_args(union):
        if get_origin(part) in (Annotated, Union) or type(part).__name__ == "UnionType":
            yield from kinds(part)
        elif isinstance(part, type) and "kind" in getattr(part, "model_fields", {}):
            yield from get_args(part.model_fields["kind"].annotation)


def own(registry: Mapping[str, Any]) -> list[str]:
    """Return the names that bigtrain itself registers, without those of other installed packages."""
    rooms = ("bigtrain.", "data_pipelines.")
    return sorted(name for name, entry in registry.items() if _module(entry).startswith(rooms))


def _module(entry: Any) -> str:
    return str(getattr(entry, "__module__", type(entry).__module__))


def rows() -> list[tuple[str, str, Iterable[str]]]:
    """Return the rows of the table: what, the page that describes it, the names."""
    configs = (TermsConfig, TranslationTermsConfig, UnpairedTermsConfig, StylisationTermsConfig)
    terms = [name for config in configs for name in config.model_fields]
    models, objectives = "docs/reference/models.md", "docs/reference/objectives.md"
    metrics, sweeps = "docs/reference/metrics.md", "docs/how-to/sweeps.md"
    return [
        ("tasks", "docs/how-to/tasks.md", own(TRAININGS)),
        ("generators", models, own(GENERATORS) + own(TRANSLATORS) + own(STYLISERS)),
        ("discriminators", models, own(DISCRIMINATORS) + own(PATCH_DISCRIMINATORS)),
        ("adversarial losses", objectives, GAMES),
        ("other loss terms", objectives, dict.fromkeys(terms)),
        ("augmentations", "docs/reference/augmentation.md", [kind for kind in kinds(AugmentConfig) if kind != "none"]),
        ("optimizers, schedules", objectives, [*kinds(OptimizerConfig), *kinds(Schedule)]),
        ("distributed strategies", "docs/explanations/strategies.md", kinds(AnyStrategy)),
        ("metrics", metrics, [*own(METRICS), *PAIRED]),
        ("feature extractors", metrics, own(EXTRACTORS)),
        ("kinds of fields", "docs/how-to/data.md", own(FIELD_KINDS)),
        ("data sources", "docs/how-to/data.md", SOURCES),
        ("inputs derived from samples", "docs/how-to/data.md", own(DERIVED)),
        ("schedulers of sweeps", sweeps, [kind for kind in kinds(AnyScheduler) if kind != "none"]),
        ("searchers of sweeps", sweeps, kinds(AnySearcher)),
    ]


def short_table() -> str:
    """Return the table of README as Markdown: counts and examples.

    Raises:
        ValueError: an example is not in its registry.
    """
    lines = ["| what | names |", "|---|---|"]
    found = {what: list(names) for what, _, names in rows()}
    for what, examples in EXAMPLES.items():
        if unknown := set(examples) - set(found[what]):
            raise ValueError(f"scripts/contents_table.py: there are no {what} named {', '.join(sorted(unknown))}")
        shown = ", ".join(f"`{name}`" for name in examples or found[what])
        lines.append(f"| {what} ({len(found[what])}) | {shown}{', …' if examples else ''} |")
    return "\n".join(lines)


def full_table() -> str:
    """Return the table of the documentation as Markdown: every name."""
    lines = ["| what | number | names |", "|---|---|---|"]
    for what, page, names in rows():
        every = list(names)
        link = os.path.relpath(ROOT / page, PAGE.parent)
        lines.append(f"| [{what}]({link}) | {len(every)} | {', '.join(f'`{name}`' for name in every)} |")
    return "\n".join(lines)


def with_table(text: str, table: str) -> str:
    """Return a file's text with the table of now between the markers."""
    return re.sub(f"{BEGIN}\n.*?{END}", lambda _: f"{BEGIN}\n{table}\n{END}", text, flags=re.DOTALL)


def main() -> None:
    """Write both tables."""
    for path, table in ((README, short_table()), (PAGE, full_table())):
        path.write_text(with_table(path.read_text(encoding="utf-8"), table), encoding="utf-8")
    sys.stdout.write(full_table() + "\n")


if __name__ == "__main__":
    main()

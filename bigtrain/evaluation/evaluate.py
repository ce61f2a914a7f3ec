"""Score a snapshot on all ranks: `python -m bigtrain.evaluation.evaluate snapshot=FOLDER`, under torchrun or alone."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NoReturn

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor

from bigtrain.core.config import Config, read_yaml
from bigtrain.core.logging import console, log
from bigtrain.core.rng import Draws
from bigtrain.distributed.collectives import is_rank_zero
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.program import as_one_of_the_ranks, settings_of_program
from bigtrain.evaluation.class_names import OtherClassesError, match_classes
from bigtrain.evaluation.evaluator import Evaluator, ScoreConfig
from bigtrain.evaluation.extraction import Stop, never
from bigtrain.evaluation.images.generated import GenerateImages
from bigtrain.evaluation.protocol import Sampling, Score, as_json
from bigtrain.evaluation.several_seeds import over_seeds
from bigtrain.evaluation.table import score_table
from bigtrain.generate.snapshot import Snapshot, SnapshotError, load_snapshot
from bigtrain.tasks.samplers import CLASS, SynthesisSampler
from data_pipelines.batches import OnCorrupt
from data_pipelines.manifest import Manifest
from data_pipelines.read import ShardDataset


class EvaluateSettings(ScoreConfig):
    """What `bigtrain evaluate SNAPSHOT` computes, beside which scores.

    Attributes:
        snapshot: its folder.
        data: folder or URL of the dataset to compare with; null for the one that the snapshot's run trains on.
        seed: of the latents; the first of `seeds`.
        seeds: scores are means over so many seeds.
        truncation: of the latents (psi); 1 for none.
        ema: width of a power-function average (sigma_rel) of the snapshot; null for the average by half-life.
        precision: of the generator's forward.
        on_corrupt: what to do with damaged reference images.
        as_json: print one JSON line instead of a table.
    """

    snapshot: Path
    data: str | None = None
    seed: NonNegativeInt = 0
    seeds: PositiveInt = 1
    truncation: NonNegativeFloat = 1.0
    ema: str | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    on_corrupt: OnCorrupt = "replace"
    as_json: bool = False


class WatchSettings(Config):
    """What `bigtrain evaluate RUN --watch` does, see `bigtrain.run.watch`.

    Attributes:
        run: the run folder.
        scores: which scores; what is not set here is as in the run's config.
    """

    run: Path
    scores: ScoreConfig = ScoreConfig()


def evaluate(
    snapshot: Snapshot,
    dataset: ShardDataset,
    config: ScoreConfig,
    ranks: Ranks,
    *,
    seeds: Sequence[int] = (0,),
    truncation: float = 1.0,
    precision: str = "fp32",
    on_corrupt: OnCorrupt = "fail",
    stop: Stop = never,
) -> dict[str, Score]:
    """Score a snapshot against a dataset. Collective.

    Args:
        snapshot: see `check_fit`.
        dataset: to compare with, or, where the config names published statistics, to take the classes' shares of.
        config: which scores.
        ranks: who shares the work.
        seeds: of the latents; scores are means over them.
        truncation: of the latents (psi).
        precision: of the generator's forward: fp32 or bf16.
        on_corrupt: what to do with damaged reference images.
        stop: tells whether this process was asked to stop.

    Raises:
        DataError, EvaluationError: damaged, or not fitting each other.
        Interrupted: a rank was asked to stop.
    """
    snapshot = with_shares_of(snapshot, dataset.manifest)
    generate = generate_from(snapshot, ranks, truncation=truncation, precision=precision)
    sampling = Sampling(truncation, snapshot.average, precision)
    evaluator = Evaluator(config, dataset, ranks, on_corrupt=on_corrupt)
    names = snapshot.class_names
    return over_seeds([evaluator.run(generate, sampling, seed=seed, classes=names, stop=stop) for seed in seeds])


def check_fit(snapshot: Snapshot, folder: Path, dataset: ShardDataset) -> None:
    """See that a snapshot makes images like those of a dataset.

    Raises:
        SnapshotError: of another shape, or of other classes.
    """
    image, manifest = snapshot.generator.image, dataset.manifest
    if image.shape != manifest.shape:
        ours, theirs = ("x".join(map(str, shape)) for shape in (image.shape, manifest.shape))
        raise SnapshotError(f"{folder} makes {ours} images, {dataset.folder} has {theirs}")
    if image.classes not in (0, len(manifest.classes)):
        raise SnapshotError(f"{folder} has {image.classes} classes, {dataset.folder} has {len(manifest.classes)}")


def find_average(folder: Path, ema: str | None) -> Path:
    """Return the folder of one of a snapshot's averages.

    Args:
        folder: of the snapshot.
        ema: width of a power-function average (sigma_rel); None for the average by half-life.

    Raises:
        SnapshotError: the snapshot has none of this width.
    """
    if ema is None:
        return folder
    chosen = folder / f"sigma-{ema}"
    if not chosen.is_dir():
        offered = sorted(path.name.removeprefix("sigma-") for path in folder.glob("sigma-*"))
        has = f"it has {', '.join(offered)}" if offered else "it has none (see ema.profiles)"
        raise SnapshotError(f"{folder}: no average of width {ema}; {has}")
    return chosen


def dataset_of(snapshot: Path) -> str:
    """Return where the dataset is that the run of a snapshot trains on.

    Raises:
        SnapshotError: the snapshot lies in no run folder.
    """
    config = snapshot.resolve().parent.parent / "config.yaml"
    if not config.is_file():
        raise SnapshotError(f"{snapshot}: lies in no run folder; name the dataset to compare with: --data DIR")
    return str(read_yaml(config)["data"]["path"])


def generate_from(
    snapshot: Snapshot, ranks: Ranks, *, truncation: float = 1.0, precision: str = "fp32"
) -> GenerateImages:
    """Return what makes images of a snapshot, with classes as its sampler draws them.

    Args:
        snapshot: of a generator; it is moved to the rank's device.
        ranks: this process's place.
        truncation: of the latents (psi).
        precision: of the generator's forward: fp32 or bf16.
    """
    networks = snapshot.to(ranks.device).networks
    half = torch.autocast(ranks.device.type, torch.bfloat16, enabled=precision == "bf16")

    def generate(draws: Draws) -> tuple[Tensor, Tensor]:
        inputs = snapshot.sampler.draw_inputs(draws)
        with half:
            made = snapshot.sampler(networks, inputs, draws, truncation=truncation)
        return next(iter(made.values())), inputs.get(CLASS, torch.full_like(draws.index, -1))

    return generate


def with_shares_of(snapshot: Snapshot, manifest: Manifest) -> Snapshot:
    """Return a snapshot that draws classes as often as a reference has them, where it knows the same classes."""
    sampler = snapshot.sampler
    if not isinstance(sampler, SynthesisSampler) or len(sampler.class_weights) != len(manifest.classes):
        return snapshot
    try:
        order = match_classes(snapshot.class_names, manifest.classes, "the snapshot", manifest.name)
    except OtherClassesError as error:
        log.warning("%s: classes are drawn with the shares of the snapshot's own training data", error)
        return snapshot
    shares = manifest.class_histogram
    return replace(snapshot, sampler=sampler.with_shares([shares[i] for i in order] if order else shares))


def evaluate_as(settings: EvaluateSettings, ranks: Ranks) -> dict[str, Score]:
    """Compute what the settings say. Collective.

    Raises:
        DataError, EvaluationError, SnapshotError: missing, damaged, or not fitting each other.
    """
    folder = find_average(settings.snapshot, settings.ema)
    snapshot, dataset = load_snapshot(folder), ShardDataset(settings.data or dataset_of(settings.snapshot))
    check_fit(snapshot, folder, dataset)
    return evaluate(
        snapshot,
        dataset,
        settings,
        ranks,
        seeds=range(settings.seed, settings.seed + settings.seeds),
        truncation=settings.truncation,
        precision=settings.precision,
        on_corrupt=settings.on_corrupt,
    )


def main(settings: EvaluateSettings | None = None) -> NoReturn:
    """Run as one of the ranks; without settings, by the words `key=value` of the command line."""
    settings = settings or settings_of_program(EvaluateSettings, "bigtrain.evaluation.evaluate")
    with as_one_of_the_ranks(answers_in_json=settings.as_json) as ranks:
        scores = evaluate_as(settings, ranks)
        if is_rank_zero() and settings.as_json:
            print(json.dumps(as_json(scores)))
        elif is_rank_zero():
            console.print(score_table(scores, title=str(find_average(settings.snapshot, settings.ema))))
    sys.exit(0)


if __name__ == "__main__":
    main()

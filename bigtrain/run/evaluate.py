"""Score a snapshot on all ranks: `python -m bigtrain.run.evaluate snapshot=FOLDER`, under torchrun or alone."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor

from bigtrain.config import load_training
from bigtrain.core.config import Config
from bigtrain.core.logging import console, counted
from bigtrain.core.rng import Draws
from bigtrain.distributed.collectives import is_rank_zero
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.program import as_one_of_the_ranks, settings_of_program
from bigtrain.engine.sampler import Sampler, check_choices
from bigtrain.evaluation.evaluator import ScoreConfig
from bigtrain.evaluation.extraction import Stop, never
from bigtrain.evaluation.outputs import MakeOutputs, OutputEvaluators, ScoredOutput, outputs_of
from bigtrain.evaluation.protocol import Sampling, Score, as_json
from bigtrain.evaluation.several_seeds import over_seeds
from bigtrain.evaluation.table import score_table
from bigtrain.generate.snapshot import Snapshot, SnapshotError, load_snapshot
from bigtrain.run.data import RunData, data_at, find_data
from bigtrain.run.scored import given_samples, scored_outputs
from data_pipelines.batches import OnCorrupt


class EvaluateSettings(ScoreConfig):
    """Settings of `bigtrain evaluate SNAPSHOT`.

    Attributes:
        snapshot: folder of the snapshot.
        data: folder or URL of the dataset to compare with, or a mapping from the name of each stream to its dataset;
            null for the dataset of the snapshot's run.
        seed: first of the `seeds` for the latents.
        seeds: number of seeds; scores are means over them.
        truncation: truncation of the latents (psi); 1 for none.
        ema: width of a power-function average (sigma_rel) in the snapshot; null for the average with a half-life.
        precision: precision of the networks' forward pass.
        on_corrupt: what happens with damaged reference images.
        as_json: whether to print one JSON line instead of a table.
    """

    snapshot: Path
    data: str | dict[str, str] | None = None
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
    outputs: Sequence[ScoredOutput],
    config: ScoreConfig,
    ranks: Ranks,
    *,
    seeds: Sequence[int] = (0,),
    truncation: float = 1.0,
    precision: str = "fp32",
    stop: Stop = never,
    on_samples: Callable[[int], None] | None = None,
) -> dict[str, Score]:
    """Score a snapshot. Collective.

    Args:
        snapshot: whose networks.
        outputs: of its sampler, with what they are compared with.
        config: which scores.
        ranks: who shares the work.
        seeds: of the latents; scores are means over them.
        truncation: of the latents (psi).
        precision: of the networks' forward: fp32 or bf16.
        stop: tells whether this process was asked to stop.
        on_samples: is called with the number of samples of each batch that this rank has generated.

    Raises:
        DataError, EvaluationError: damaged, or not fitting each other.
        Interrupted: a rank was asked to stop.
    """
    make = outputs_of(snapshot, ranks.device, precision=precision)
    if on_samples is not None:
        make = _reporting(make, on_samples)
    choices = {} if truncation == 1 else {"truncation": truncation}
    check_choices(snapshot.sampler, choices)
    sampling = Sampling(truncation, snapshot.average, precision)
    evaluators = OutputEvaluators(config, outputs, ranks)
    names = snapshot.class_names
    return over_seeds(
        [evaluators.run(make, sampling, seed=seed, classes=names, stop=stop, **choices) for seed in seeds]
    )


def _reporting(make: MakeOutputs, on_samples: Callable[[int], None]) -> MakeOutputs:
    """Return `make`, which then also reports how many samples it has made."""

    def made(inputs: Mapping[str, Tensor], draws: Draws, **choices: Any) -> dict[str, Tensor]:
        outputs = make(inputs, draws, **choices)
        on_samples(len(draws))
        return outputs

    return made


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


def data_of(settings: EvaluateSettings, sampler: Sampler) -> RunData:
    """Open the data that a snapshot is compared with: those of the settings, else those of its run.

    Raises:
        UserError: the snapshot lies in no run folder, or the data lack what its sampler needs.
    """
    file = settings.snapshot.resolve().parent.parent / "config.yaml"
    config = load_training(file) if file.is_file() else None
    if settings.data is not None:
        places = {"": settings.data} if isinstance(settings.data, str) else settings.data
        data = data_at(places, sampler, config.data.derived_fields() if config else {})
    elif config is not None:
        data = find_data(config)
    else:
        raise SnapshotError(
            f"{settings.snapshot}: is not in a run folder; give the dataset to compare with: --data DIR"
        )
    return replace(data, plans={n: replace(plan, on_corrupt=settings.on_corrupt) for n, plan in data.plans.items()})


def evaluate_as(settings: EvaluateSettings, ranks: Ranks) -> dict[str, Score]:
    """Compute what the settings say. Collective.

    Raises:
        DataError, UserError: missing, damaged, or not fitting each other.
    """
    snapshot = load_snapshot(find_average(settings.snapshot, settings.ema))
    data = data_of(settings, snapshot.sampler)
    reals = given_samples(snapshot.sampler, data, settings.samples)
    outputs = scored_outputs(snapshot.sampler, data, reals, ranks.device)
    passes = settings.seeds * len(outputs) * (2 if settings.pairs else 1)
    with counted("evaluating", settings.samples * passes, visible=is_rank_zero()) as advance:
        return evaluate(
            snapshot,
            outputs,
            settings,
            ranks,
            seeds=range(settings.seed, settings.seed + settings.seeds),
            truncation=settings.truncation,
            precision=settings.precision,
            on_samples=lambda count: advance(count * ranks.world_size),
        )


def main(settings: EvaluateSettings | None = None) -> NoReturn:
    """Run as one of the ranks; without settings, by the words `key=value` of the command line."""
    settings = settings or settings_of_program(EvaluateSettings, "bigtrain.run.evaluate")
    with as_one_of_the_ranks(answers_in_json=settings.as_json) as ranks:
        scores = evaluate_as(settings, ranks)
        if is_rank_zero() and settings.as_json:
            print(json.dumps(as_json(scores)))
        elif is_rank_zero():
            console.print(score_table(scores, title=str(find_average(settings.snapshot, settings.ema))))
    sys.exit(0)


if __name__ == "__main__":
    main()

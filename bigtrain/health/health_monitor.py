"""Watches a run's health: probes take readings, the same on all ranks, and the monitors assess them."""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from bigtrain.core.state import Progress
from bigtrain.distributed.collectives import from_rank_zero, is_rank_zero
from bigtrain.engine.step import StepResult
from bigtrain.health.balance import GENERATOR_NORM
from bigtrain.health.health import Health
from bigtrain.health.probes.features import FeatureProbe, GenerateForProbe, Neighbours
from bigtrain.health.probes.logits import BatchLogits, LogitProbe
from bigtrain.health.probes.weights import WeightProbe
from bigtrain.health.recovery import Recovery
from bigtrain.health.report import write_report
from bigtrain.health.skipped_steps import SkippedSteps

_SHOWN = ("logits/", "signs/", "features/")


class HealthMonitor:
    """Examines a run: logits and weights at each log interval, features of fakes less often.

    Args:
        health: assesses the readings and keeps the state of the symptoms.
        logits: reads D's logits of real images.
        weights: compares weights.
        features: compare fakes with real images, one for each output; none where the run makes none.
        folder: the run folder, which gets a report.
    """

    def __init__(
        self,
        health: Health,
        logits: LogitProbe,
        weights: WeightProbe,
        features: Sequence[FeatureProbe],
        folder: Path,
    ) -> None:
        self.health, self._folder = health, folder
        self._logits, self._weights, self._features = logits, weights, features
        self._skipped = SkippedSteps()

    def add_steps(self, result: StepResult, progress: Progress) -> None:
        """Add the optimizer steps of a training step, taken at this place of the run."""
        for phase, skipped in result.skipped:
            self._skipped.add(phase.name, progress, skipped)

    def read_skipped(self) -> list[tuple[str, Progress]]:
        """Count the optimizer steps since the last time; the device alone knows them, and is waited for now.

        Returns:
            Phase and place of each that was skipped.
        """
        steps = self._skipped.read()
        for phase, _, skipped in steps:
            self.health.count_step(phase, skipped=skipped)
        return [(phase, where) for phase, where, skipped in steps if skipped]

    def write_report(self, recovery: Recovery, progress: Progress) -> None:
        """Leave a report in the run folder."""
        if is_rank_zero():
            write_report(self._folder, self.health, recovery, progress)

    def quick(
        self,
        metrics: Mapping[str, float],
        logits_of: BatchLogits,
        parameters: Iterable[tuple[str, Tensor]],
        progress: Progress,
        *,
        generators: Sequence[str],
    ) -> dict[str, float]:
        """Assess the logged metrics, D's logits and the weights. Collective.

        Args:
            metrics: of the interval that ends here.
            logits_of: gives the discriminator's logits of real samples.
            parameters: of all players, whole, by names such as `D.blocks.0.conv1.bias`.
            progress: where the run is.
            generators: names of the phases of players with the role of the generator.

        Returns:
            What to log.
        """
        began = time.perf_counter()
        norms = [metrics[key] for name in generators if (key := f"gradient_norm/{name}") in metrics]
        metrics = {**metrics, GENERATOR_NORM: max(norms)} if norms else metrics
        probed = {**self._logits.read(logits_of), **self._weights.read(parameters)}
        # One rank's numbers for all: clocks differ, and so may the last bits of a product.
        readings = from_rank_zero({**metrics, **probed})
        levels = self.health.observe(readings, progress)
        return {**_shown(probed), **levels, "time/health_s": time.perf_counter() - began}

    @property
    def looks_at_features(self) -> bool:
        """Whether `thorough` has anything to do."""
        return bool(self._features)

    def thorough(
        self, generate: GenerateForProbe, progress: Progress
    ) -> tuple[dict[str, float], Mapping[str, Neighbours]]:
        """Assess the features of a batch of fakes of a fixed seed. Collective.

        Returns:
            What to log, and pictures of nearest neighbours by name.
        """
        began = time.perf_counter()
        probed: dict[str, float] = {}
        pictures: dict[str, Neighbours] = {}
        for probe in self._features:
            readings, neighbours = probe.read(generate)
            probed |= readings
            if neighbours is not None:
                pictures[f"health/neighbours{probe.suffix}"] = neighbours
        readings = from_rank_zero(probed)
        levels = self.health.observe(readings, progress)
        return {**_shown(readings), **levels, "time/health_features_s": time.perf_counter() - began}, pictures


def _shown(readings: Mapping[str, float]) -> dict[str, float]:
    """Return the readings worth a curve each; of those of every layer, the largest."""
    shown = {name: value for name, value in readings.items() if name.startswith(_SHOWN)}
    for kind in ("still", "sigma"):
        values = [value for name, value in readings.items() if name.startswith(f"{kind}/")]
        if values:
            shown[f"weights/{kind}_max"] = max(values)
    return shown

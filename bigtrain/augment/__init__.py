"""What D sees in place of images, so that it cannot learn few of them by heart; a new kind is a new file and a name."""

from typing import Annotated, Literal

from pydantic import Field

from bigtrain.augment.ada import AdaConfig
from bigtrain.augment.ada_controller import FixedConfig, Probability, ProbabilityConfig
from bigtrain.augment.apa import ApaConfig
from bigtrain.augment.base import Augment
from bigtrain.augment.diffaugment import DiffAugmentConfig
from bigtrain.augment.phase_shift import PhaseShiftConfig
from bigtrain.core.config import Config
from bigtrain.core.schedules import ConstantSchedule


class NoAugmentConfig(Config):
    """D sees the images as they are."""

    kind: Literal["none"] = "none"

    @property
    def probability(self) -> ProbabilityConfig:
        """The probability 0."""
        return FixedConfig(p=ConstantSchedule(value=0.0))

    def build(self) -> Augment:
        """Build what changes nothing."""
        return Augment()


AugmentConfig = Annotated[
    NoAugmentConfig | AdaConfig | DiffAugmentConfig | ApaConfig | PhaseShiftConfig, Field(discriminator="kind")
]

__all__ = ["Augment", "AugmentConfig", "NoAugmentConfig", "Probability"]

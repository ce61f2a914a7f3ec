"""Fields that are computed from the samples instead of stored.

The damaged, small or colourless twin of an image is one, the spectrogram of a sound another.

A new kind is a file here and a name below; other packages add theirs by entry points of `bigtrain.derived`.
"""

from bigtrain.augment.derived.base import DERIVED, DerivedField, DerivedFieldConfig, derive
from bigtrain.augment.derived.cameras import OrbitCameraConfig
from bigtrain.augment.derived.clips import FramesConfig
from bigtrain.augment.derived.damage import BlurConfig, JPEGConfig, NoiseConfig
from bigtrain.augment.derived.dual import DualConfig
from bigtrain.augment.derived.edges import EdgesConfig
from bigtrain.augment.derived.holes import HolesConfig
from bigtrain.augment.derived.label_map import LabelMapConfig
from bigtrain.augment.derived.restoration import RestorationConfig
from bigtrain.augment.derived.sizes import DownscaleConfig, GrayscaleConfig
from bigtrain.augment.derived.sounds import ExcerptConfig, FrequencyConfig, MelConfig, SpectrogramConfig

DERIVED.add_classes(
    BlurConfig,
    DownscaleConfig,
    DualConfig,
    EdgesConfig,
    ExcerptConfig,
    FramesConfig,
    FrequencyConfig,
    GrayscaleConfig,
    HolesConfig,
    JPEGConfig,
    LabelMapConfig,
    MelConfig,
    NoiseConfig,
    OrbitCameraConfig,
    RestorationConfig,
    SpectrogramConfig,
)

__all__ = ["DERIVED", "DerivedField", "DerivedFieldConfig", "derive"]

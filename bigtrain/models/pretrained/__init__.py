"""Networks that come with their weights and are not trained here, and how they compare images."""

from bigtrain.models.pretrained.feature_maps import (
    EfficientNetLite0Maps,
    FeatureMaps,
    FeatureMapsName,
    VGG16Maps,
    feature_maps,
)

__all__ = ["EfficientNetLite0Maps", "FeatureMaps", "FeatureMapsName", "VGG16Maps", "feature_maps"]

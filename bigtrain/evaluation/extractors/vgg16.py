"""VGG16 features (Simonyan & Zisserman 2015), those that improved precision and recall were published with."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

from bigtrain.core.state import State
from bigtrain.evaluation.extractors.base import FeatureDtype
from bigtrain.evaluation.extractors.resize import resize_like_tensorflow1

_SIZE = 224
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGG16(nn.Module):
    """torchvision's network up to its second fully connected layer; see Extractor.

    Args:
        state: torchvision's tensors.
        weights_sha256: of the file that they came from.
        short_name: see Extractor.
    """

    name = "vgg16"
    layers: Mapping[str, int] = MappingProxyType({"pool": 4096, "logits": 1000})
    preprocessing = f"bilinear as in TensorFlow 1 to {_SIZE}x{_SIZE}, ImageNet's mean and deviation"

    def __init__(self, state: State, *, weights_sha256: str, short_name: str) -> None:
        from torchvision.models import vgg16  # a third of a second of every rank, and few use it

        super().__init__()
        self.short_name, self.weights_sha256 = short_name, weights_sha256
        with torch.device("meta"):
            network = vgg16()
        network.load_state_dict(state, assign=True)
        self.convolutions, self.average = network.features, network.avgpool
        self.connected, self.classes = network.classifier[:5], network.classifier[6].weight
        self.register_buffer("mean", torch.tensor(_MEAN).reshape(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).reshape(1, 3, 1, 1) * 255, persistent=False)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @property
    def dtype(self) -> FeatureDtype:
        """See Extractor."""
        return "bf16" if self.classes.dtype == torch.bfloat16 else "fp32"

    def forward(self, image: Tensor, layers: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """See Extractor."""
        x = (resize_like_tensorflow1(image.float(), _SIZE) - self.get_buffer("mean")) / self.get_buffer("deviation")
        x = x.to(self.classes.dtype).contiguous(memory_format=torch.channels_last)
        pool = self.connected(self.average(self.convolutions(x)).flatten(1)).float()
        found = {"pool": pool, "logits": pool @ self.classes.float().t()}
        return {layer: found[layer] for layer in layers}

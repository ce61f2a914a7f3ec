"""A probe's features, for scores of samples that no pretrained network knows: sounds, volumes, rows of numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from bigtrain.evaluation.extractors.base import OWN_LOGITS, FeatureDtype
from bigtrain.evaluation.probes.file import read_probe
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.files import sha256_of


class Probe(nn.Module):
    """The features of a network that `bigtrain probe train` has made; see Extractor.

    Args:
        path: of its file.

    Attributes:
        field: what it looks at.
        classes: names of the classes that it tells; empty if it was trained without.

    Raises:
        EvaluationError: there is no such file, or it is no probe.
    """

    dtype: FeatureDtype = "fp32"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.network, self.about = read_probe(path)
        self.weights_sha256 = sha256_of(path)
        self.name, self.short_name = f"probe:{path.name}", f"probe-{self.weights_sha256[:8]}"
        self.preprocessing = (
            f"field '{self.about.field}', {self.about.spec.kind} of {self.about.spec.size_words}; held-out accuracy "
            f"{self.about.accuracy:.4f} of {self.about.measured_on} samples, trained on {self.about.dataset[:12]}"
        )
        self.field: FieldSpec = self.about.spec
        self.classes = self.about.classes
        self.layers: Mapping[str, int] = {"pool": self.network.features}
        if known := len(self.classes):
            self.layers |= {"logits": known, OWN_LOGITS: known}

    def forward(self, image: Tensor, layers: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """See Extractor; `image` is the field as it is stored."""
        pool = self.network.pool(self.network.input_of(image))
        found = {"pool": pool}
        if set(layers) - {"pool"}:
            found["logits"] = found[OWN_LOGITS] = self.network.classify(pool)
        return {layer: found[layer] for layer in layers}

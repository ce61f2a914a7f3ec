"""Whether the host can run ahead of a GPU through generating, extracting and collecting."""

from pathlib import Path

import torch

from bigtrain.core.rng import Draws
from bigtrain.evaluation.extractors import build_extractor
from bigtrain.evaluation.extractors.base import OWN_LOGITS
from bigtrain.evaluation.images.generated import GeneratedImages
from bigtrain.evaluation.metrics import METRICS
from bigtrain.evaluation.metrics.base import Need
from bigtrain.evaluation.statistics.some import SomeRows
from bigtrain.models import ImageSpec
from bigtrain.models.biggan import BigGANGeneratorConfig
from tests.inception import write_weights
from tests.waits import Waits

CPU = torch.device("cpu")


@torch.inference_mode()
def test_a_batch_never_asks_the_device(tmp_path: Path) -> None:
    extractor = build_extractor("inception-v3-compat", "fp32", CPU, weights=write_weights(tmp_path))
    generator = BigGANGeneratorConfig(z_dim=8, width=8, multiples=(1, 1, 1)).build(ImageSpec(16, 3, 3)).eval()

    def generate(draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
        label = draws.of("label").categorical([1, 2, 3])
        return generator(draws.of("z").normal(8), label), label

    images = GeneratedImages(generate, 8, seed=0, device=CPU)
    needs = {metric.need for metric in METRICS.values()} | {Need("pool", SomeRows)}
    needs = {need._replace(layer="logits") if need.layer == OWN_LOGITS else need for need in needs}  # a probe's
    needs = {need for need in needs if need.layer in extractor.layers}  # points come from another extractor
    collectors = [(need, need.collector(extractor.layers[need.layer], 8, CPU)) for need in needs]

    def take(index: torch.Tensor) -> None:
        image, label = images.read(index)
        features = extractor(image, list(extractor.layers))
        for need, collector in collectors:
            collector.add(features[need.layer], index, label)

    take(torch.arange(4))  # constants are made at their first use
    with Waits() as waits:
        take(torch.arange(4, 8))
    assert waits.found == []
    assert images.faults == []

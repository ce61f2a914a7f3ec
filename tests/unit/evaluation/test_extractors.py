"""The networks of published scores, against the implementations that the scores come from."""

from pathlib import Path
from unittest import mock

import pytest
import torch
from PIL import Image
from pytorch_fid import inception as pytorch_fid
from torch import nn
from torch_fidelity import sample_similarity_lpips as fidelity_lpips
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torchvision.models import vgg16

from bigtrain.evaluation.distances import FeatureDistance, build_distance
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.extractors import build_extractor
from bigtrain.evaluation.extractors.base import suffix_of
from bigtrain.evaluation.extractors.convolution import FrozenConvolution
from bigtrain.evaluation.extractors.cores import AT_ONCE
from bigtrain.evaluation.extractors.resize import resize_like_tensorflow1
from bigtrain.models.pretrained.feature_maps import EfficientNetLite0Maps, VGG16Maps, vgg16_parts
from tests.inception import write_weights

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"))


def images(count: int, *size: int) -> torch.Tensor:
    """Images that differ in colour and coarse shapes."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return (nn.functional.interpolate(coarse, size, mode="bilinear") * 255).to(torch.uint8)


@pytest.mark.parametrize("size", [(64, 64), (28, 40), (299, 299), (650, 300)])
def test_the_resize_is_torch_fidelitys_bit_by_bit(size: tuple[int, int]) -> None:
    image = images(2, *size).float()
    theirs = interpolate_bilinear_2d_like_tensorflow1x(image, size=(299, 299), align_corners=False)
    assert torch.equal(resize_like_tensorflow1(image, 299), theirs)


@torch.inference_mode()
def test_folded_inception_equals_torch_fidelitys_and_pytorch_fids(weights: Path) -> None:
    image = images(2, 64, 64)
    ours = build_extractor("inception-v3-compat", "fp32", CPU, weights=weights)
    theirs = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights)
    )
    found = ours(image, ("pool", "logits", "spatial"))
    convolved: list[torch.Tensor] = []
    theirs.Mixed_6d.branch1x1.conv.register_forward_hook(lambda *call: convolved.append(call[2]))
    for layer, expected in zip(("pool", "logits"), theirs(image), strict=True):
        assert expected.std(0).mean() > 0.01 * expected.std(), "the random network must tell images apart"
        torch.testing.assert_close(found[layer], expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert found["spatial"].shape == (2, ours.layers["spatial"])
    # As guided-diffusion takes them of TensorFlow's mixed_6/conv, [N, H, W, C]: [..., :7], flattened.
    spatial = convolved[0].permute(0, 2, 3, 1)[..., :7].reshape(2, -1)
    torch.testing.assert_close(found["spatial"], spatial, rtol=1e-5, atol=1e-5 * float(spatial.abs().max()))
    grey = ours(image[:1, :1])["pool"]
    torch.testing.assert_close(grey, ours(image[:1, :1].repeat(1, 3, 1, 1))["pool"])

    with mock.patch.object(pytorch_fid, "load_state_dict_from_url", lambda *_, **__: torch.load(weights)):
        (expected,) = pytorch_fid.InceptionV3([3]).eval()(image / 255)
    like_theirs = build_extractor("inception-v3-pytorch-fid", "fp32", CPU, weights=weights)(image)["pool"]
    torch.testing.assert_close(
        like_theirs, expected.squeeze(3).squeeze(2), rtol=1e-5, atol=1e-5 * float(expected.abs().max())
    )
    assert suffix_of(ours).startswith("_inception-"), "scores are named for weights that are not the published ones"


@torch.inference_mode()
def test_a_convolution_in_one_pass_equals_its_steps(weights: Path) -> None:
    network = build_extractor("inception-v3-compat", "fp32", CPU, weights=weights)
    layers = [module for module in network.modules() if isinstance(module, FrozenConvolution)]
    assert len(layers) > 60
    for layer in layers:
        x = torch.randn(1, layer.in_channels, 9, 9).to(memory_format=torch.channels_last)
        expected = layer.plain(x)
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=2e-6 * float(expected.abs().max()))
    assert layers[0]._laid_out is not None, "it was not done in one pass"


@torch.inference_mode()
def test_features_are_the_same_on_any_number_of_cores_and_in_any_batch(weights: Path) -> None:
    network, image = build_extractor("inception-v3-compat", "fp32", CPU, weights=weights), images(2 * AT_ONCE, 32, 32)
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(network(image)["pool"])
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0][AT_ONCE:], network(image[AT_ONCE:])["pool"])


@torch.inference_mode()
def test_lpips_equals_torch_fidelitys() -> None:
    state = {name: value for name, value in vgg16().state_dict().items() if name.startswith("features.")}
    heads = {f"lin{part}.model.1.weight": torch.rand(1, n, 1, 1) for part, n in enumerate((64, 128, 256, 512, 512))}
    network = nn.Module()
    with torch.device("meta"):
        network.features = vgg16().features
    network.load_state_dict(state, assign=True)
    with (
        mock.patch.object(fidelity_lpips, "torchvision_load_pretrained_vgg16", return_value=network),
        mock.patch.object(fidelity_lpips, "load_state_dict_from_url", return_value=heads),
    ):
        theirs = fidelity_lpips.SampleSimilarityLPIPS("lpips")
    one, other = images(4, 40, 32).split(2)
    maps = VGG16Maps()
    maps.network = vgg16_parts(state)
    ours = FeatureDistance(maps, list(heads.values()), name="lpips-vgg16")
    found = ours(*(side.float() / 127.5 - 1 for side in (one, other)))
    torch.testing.assert_close(found, theirs(one, other).flatten(), rtol=1e-5, atol=1e-7)
    assert ours(*(one.float() / 127.5 - 1,) * 2).abs().max() == 0


@torch.inference_mode()
def test_the_distance_that_needs_no_download_grows_with_the_difference() -> None:
    distance = build_distance("perceptual", CPU)
    image = images(2, 64, 48).float() / 127.5 - 1
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    near, far = (distance(image, image + size * noise) for size in (0.02, 0.2))
    assert distance(image, image).abs().max() == 0
    assert (near > 0).all()
    assert (2 * near < far).all()
    maps = EfficientNetLite0Maps()
    maps.load(CPU)
    pairs = zip(maps(image), maps(image + 0.2 * noise), strict=True)
    cosines = [nn.functional.cosine_similarity(one, other).mean((1, 2)) for one, other in pairs]
    torch.testing.assert_close(far, (2 - 2 * torch.stack(cosines)).sum(0), rtol=1e-4, atol=1e-5)
    assert distance.short_name == "efflite0"


def test_a_users_network_comes_from_a_file_of_any_kind(tmp_path: Path) -> None:
    code = tmp_path / "mine.py"
    code.write_text(
        "import torch\n"
        "class Mean(torch.nn.Module):\n"
        "    def forward(self, image):\n"
        "        return image.float().mean((2, 3))\n"
        "def build():\n"
        "    return Mean()\n"
    )
    image = images(3, 20, 20)
    from_code = build_extractor(f"file:{code}", "fp32", CPU)
    assert from_code.layers == {"pool": 3}
    assert suffix_of(from_code) == "_mine"
    anything = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(from_code.network, (image,), dynamic_shapes=(anything,))
    torch.export.save(program, tmp_path / "mine.pt2")
    exported = build_extractor(f"file:{tmp_path / 'mine.pt2'}", "fp32", CPU)
    torch.testing.assert_close(exported(image)["pool"], from_code(image)["pool"])
    assert exported.weights_sha256 != from_code.weights_sha256
    code.write_text("build = 3\n")
    with pytest.raises(EvaluationError, match=r"mine.py: has no function build\(\)"):
        build_extractor(f"file:{code}", "fp32", CPU)
    Image.new("RGB", (4, 4)).save(tmp_path / "picture.png")
    with pytest.raises(EvaluationError, match=r"expected a \.py, \.pt2 or \.safetensors \(probe\) file"):
        build_extractor(f"file:{tmp_path / 'picture.png'}", "fp32", CPU)

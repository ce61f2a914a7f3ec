"""EG3D: sizes, cameras, the coarse image, conditions by vectors, what it learns, and what it refuses."""

from typing import Any

import numpy as np
import pytest
import torch

from bigtrain.augment.derived.cameras import OrbitCameraConfig
from bigtrain.augment.derived.dual import DualConfig
from bigtrain.core.config import ConfigError, parse_config
from bigtrain.core.errors import UserError
from bigtrain.core.rng import Draws
from bigtrain.engine.shards_config import ShardsConfig
from bigtrain.models import EG3DGeneratorConfig, ImageSpec, StyleGAN2GeneratorConfig
from bigtrain.models.eg3d import EG3DGenerator
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.ops.cameras import orbit_cameras
from bigtrain.tasks import read_sampler
from bigtrain.tasks.samplers import VectorConditionSampler
from bigtrain.tasks.synthesis import SynthesisConfig
from data_pipelines.camera import axes, position
from data_pipelines.fields.spec import FieldSpec
from tests.task_training import TASKS

BASE = StyleGAN2GeneratorConfig(z_dim=4, w_dim=8, mapping_layers=1, channel_base=128, channel_max=8, noise="none")
SMALL = EG3DGeneratorConfig(
    base=BASE, planes=8, features=4, hidden=8, channels=6, resolution=8, coarse_samples=6, fine_samples=4, width=6
)
DRAWS = Draws(0, torch.arange(3))


def generator(channels: int = 6, side: int = 16, **changes: Any) -> EG3DGenerator:
    torch.manual_seed(0)
    return SMALL.model_copy(update=changes).build(ImageSpec(side, channels, 25)).eval()


def cameras(*poses: tuple[float, float]) -> torch.Tensor:
    return orbit_cameras(torch.tensor(poses), distance=2.7, field_of_view=45.0)


def test_published_sizes() -> None:
    """Chan et al. 2022, section 4: three planes of 256x256x32, a hidden layer of 64 units, 32 channels."""
    with torch.device("meta"):
        G = EG3DGeneratorConfig().build(ImageSpec(512, 6, 25))
    assert G.backbone.image.shape == (96, 256, 256)
    assert [tuple(layer.weight.shape) for layer in (G.decoder[0], G.decoder[2])] == [(64, 32), (33, 64)]
    assert len(G.enlarging) == 2


@pytest.mark.parametrize(("channels", "side"), [(3, 8), (3, 16), (6, 8), (6, 32)])
@torch.no_grad()
def test_images_of_any_doubling(channels: int, side: int) -> None:
    G, z, camera = generator(channels, side), torch.randn(2, 4), cameras((0.0, 0.0), (1.0, 0.3))
    made = G(z, camera)
    assert made.shape == (2, channels, side, side)
    assert made.dtype == torch.float32
    if side == 8 and channels == 6:
        assert made[:, :3].equal(made[:, 3:]), "nothing enlarges the coarse image"
    torch.testing.assert_close(G(z[1:], camera[1:]), made[1:])
    assert (G(z, camera.flip(0)) - made).abs().max() > 1e-3


@torch.no_grad()
def test_draws_jitter_the_places_on_the_rays() -> None:
    G, z, camera = generator(), torch.randn(3, 4), cameras((0.0, 0.0), (1.0, 0.3), (2.0, 0.0))
    jittered = G(z, camera, draws=DRAWS)
    assert 0 < (jittered - G(z, camera)).abs().max() < 1
    torch.testing.assert_close(G(z[1:], camera[1:], draws=DRAWS[slice(1, 3)]), jittered[1:])


@torch.no_grad()
def test_what_no_ray_meets_is_white() -> None:
    G = generator(3, 8, white=True)
    G.decoder[2].bias[0] = -100.0  # no density anywhere
    assert (G(torch.randn(1, 4), cameras((0.0, 0.0))) == 1).all()


def test_it_learns_which_side_of_an_object_is_seen() -> None:
    """From the front it is dark, from behind it is light: one volume for all cameras can be both."""
    G = generator(3, 8, fine_samples=0)
    camera = cameras((0.0, 0.0), (3.14, 0.0), (0.2, 0.1), (3.0, 0.1))
    targets = torch.tensor([-0.8, 0.8, -0.8, 0.8])[:, None, None].expand(-1, 2, 2)
    optimizer = torch.optim.Adam(G.parameters(), lr=2e-2)
    z = torch.zeros(4, 4) + torch.arange(4.0)
    for _ in range(60):
        middle = G(z, camera)[:, 0, 3:5, 3:5]
        loss = (middle - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1  # 0.64 for one grey


def test_the_dual_field_has_the_image_and_a_coarse_one() -> None:
    dual = DualConfig(kind="dual", resolution=4)
    assert dual.spec(FieldSpec("image", (3, 8, 12), "uint8")).shape == (6, 8, 12)
    images = torch.rand(2, 3, 8, 12) * 2 - 1
    made = dual.compute(images, DRAWS)
    assert dual.invert(made, DRAWS).equal(images)
    torch.testing.assert_close(made[:, 3:].mean((2, 3)), images.mean((2, 3)), atol=0.05, rtol=0)
    again = dual.compute(made[:, 3:], DRAWS)[:, 3:]
    assert (again - made[:, 3:]).abs().max() < (images - made[:, 3:]).abs().max()
    with pytest.raises(ValueError, match="resolution 3 does not divide images whose shorter side is 8"):
        DualConfig(kind="dual", resolution=3).spec(FieldSpec("image", (3, 8, 12), "uint8"))


def sampler(**condition: Any) -> VectorConditionSampler:
    schema, config, fields = TASKS["views"]
    chosen = {**config["condition"], **condition}
    parsed = parse_config(schema, {**config, "condition": chosen}, source="test")
    assert isinstance(parsed, SynthesisConfig)
    parsed.networks(fields)
    found = parsed.build_sampler(fields, {})
    assert isinstance(found, VectorConditionSampler)
    return found


def test_samples_are_of_the_image_and_people_give_the_pose() -> None:
    made = sampler()
    assert list(made.inputs) == ["pose"]
    assert list(made.outputs) == ["image"]
    drawn = made.draw_inputs(Draws(0, torch.arange(500)))["pose"]
    low, high = (torch.tensor(bound) for bound in (made.low, made.high))
    assert (drawn >= low).all() and (drawn <= high).all()
    torch.testing.assert_close(drawn.mean(0), (low + high) / 2, atol=0.1, rtol=0)
    assert made.prior == "pose uniform, -1 to 1, -0.5 to 0.5"
    assert made.label_of({"pose": torch.zeros(3, 2)}, DRAWS).equal(cameras((0.0, 0.0)).expand(3, -1))
    again = read_sampler(made.describe())
    assert again.describe() == made.describe()


def test_a_condition_without_bounds_must_be_given() -> None:
    made = sampler(low=None, high=None)
    assert made.drawn == frozenset()
    with pytest.raises(UserError, match=r"this network needs the input 'pose'.* condition\.low"):
        made.draw_inputs(DRAWS)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"field": "nothing"}, "condition.field 'nothing': data has image, pose, camera, dual"),
        ({"field": "image"}, r"a float32 vector, but this is image uint8 of the shape \[3, 16, 16\]"),
        ({"low": [0.0]}, "condition.low, condition.high: 'pose' has 2 numbers, not 1, 2"),
        ({"low": [2.0, 0.0]}, r"condition.low \[2.0, 0.0\] is greater than condition.high"),
        ({"field": "class", "low": [0.0]}, "condition.low: classes have no bounds"),
    ],
)
def test_conditions_that_do_not_fit_are_named(condition: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sampler(**condition)


def test_poses_are_two_numbers() -> None:
    with pytest.raises(ValueError, match=r"yaw and pitch in radians, .* of the shape \[3\]"):
        OrbitCameraConfig(kind="orbit_camera").spec(FieldSpec("array", (3,), "float32"))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (ImageSpec(16, 3), "eg3d renders images from cameras: set condition.field"),
        (ImageSpec(16, 1, 25), "3 channels, or of 6 in a derived field 'dual', not 1"),
        (ImageSpec(24, 3, 25), "doubling resolution 8 does not lead to images of 24 pixels"),
        (ImageSpec(4, 3, 25), "doubling resolution 8 does not lead to images of 4 pixels"),
    ],
)
def test_what_does_not_fit_is_named(image: ImageSpec, words: str) -> None:
    with pytest.raises(ValueError, match=f"^generator: .*{words}"):
        NetworkSpec("generator", "generator", SMALL, (image,)).build()


def test_the_camera_is_that_of_the_views_of_meshes() -> None:
    pose = torch.tensor([[0.7, -0.3]])
    matrix = OrbitCameraConfig(kind="orbit_camera").compute(pose, DRAWS)[0, :16].reshape(4, 4).double().numpy()
    right, up, forward = axes(pose[0].numpy())
    np.testing.assert_allclose(matrix[:3, :3], np.stack([right, -up, forward], axis=1), atol=1e-6)
    np.testing.assert_allclose(matrix[:3, 3], position(pose[0].numpy()), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"flip": True}, "flip: mirrors images"),
        ({"crop": "random"}, "crop: crops images"),
        ({"crop": "center"}, "crop: crops images"),
    ],
)
def test_images_of_a_camera_are_neither_mirrored_nor_cropped(changes: dict[str, Any], words: str) -> None:
    fields = {"image": {"kind": "image"}, "pose": {"kind": "array", "shape": [2], "dtype": "float32"}}
    config = {"path": "x", "resolution": 16, "fields": fields, "derived": {"camera": {"kind": "orbit_camera"}}}
    parse_config(ShardsConfig, config, source="test")
    with pytest.raises(ConfigError, match=f"{words}, but not 'pose', from which derived.camera is computed"):
        parse_config(ShardsConfig, {**config, **changes}, source="test")

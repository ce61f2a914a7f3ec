from pathlib import Path

import pytest
import torch
from torch import Tensor

from bigtrain.core.batch import Batch
from bigtrain.core.config import parse_config
from bigtrain.core.rng import Draws
from bigtrain.distributed.init import Ranks
from bigtrain.engine.reals import Reals, held_out_reals, trained_reals
from bigtrain.health.probes.logits import LogitProbe
from bigtrain.health.probes.weights import WeightProbe
from bigtrain.models import ImageSpec
from bigtrain.ops.convolution import conv2d
from bigtrain.tasks.synthesis import SynthesisConfig
from data_pipelines.batches import BatchPlan
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.order import trained_counts
from data_pipelines.stream import BatchStream
from tests.training import fields_of

ALONE = Ranks(0, 1, 0, torch.device("cpu"))


def test_the_largest_singular_value_is_found() -> None:
    probe, weight = WeightProbe(), torch.randn(16, 4, 3, 3)
    for _ in range(20):
        (sigma,) = probe.read([("D.conv.weight", weight)]).values()
    assert abs(sigma / torch.linalg.matrix_norm(weight.flatten(1), 2).item() - 1) < 1e-3


def test_units_that_stand_still_are_counted_also_after_a_resume() -> None:
    probe, bias = WeightProbe(), torch.zeros(10)
    assert probe.read([("D.conv.bias", bias)]) == {}
    bias[:4] += 1
    again = WeightProbe()
    again.load_state_dict(probe.state_dict())
    assert probe.read([("D.conv.bias", bias)]) == again.read([("D.conv.bias", bias)]) == {"still/D.conv.bias": 0.6}


def test_logits_are_read_in_whole_micro_batches(alone: None) -> None:
    sizes: list[int] = []

    def logits_of(batch: Batch) -> dict[str, Tensor]:
        sizes.append(len(batch))
        mean = batch["image"].mean((1, 2, 3))
        return {"": mean, "D_B": -mean}

    spec = {"image": FieldSpec("image", (1, 2, 2), "uint8")}
    white, black = (Reals({"image": torch.full((6, 1, 2, 2), value, dtype=torch.uint8)}, spec) for value in (255, 0))
    readings = LogitProbe(white, black, micro_batch=4, ranks=ALONE).read(logits_of)
    assert readings.pop("logits/held_out_z") > 1e6  # all images of a set are alike
    assert readings.pop("logits/held_out_z/D_B") < -1e6
    expected = {"logits/train": 1, "signs/train": 1, "logits/held_out": -1, "signs/held_out": -1}
    assert readings == expected | {f"{name}/D_B": -value for name, value in expected.items()}
    assert sizes == [4, 4, 4, 4]
    nothing = Reals({"image": torch.empty(0, 1, 2, 2, dtype=torch.uint8)}, spec)
    assert LogitProbe(white, nothing, micro_batch=4, ranks=ALONE).read(logits_of) == {}


def test_logits_of_weights_in_bfloat16(alone: None) -> None:
    spec = {"image": FieldSpec("image", (1, 2, 2), "uint8")}
    white, black = (Reals({"image": torch.full((6, 1, 2, 2), value, dtype=torch.uint8)}, spec) for value in (255, 0))
    weight = torch.ones(1, 1, 2, 2, dtype=torch.bfloat16)
    probe = LogitProbe(white, black, micro_batch=4, ranks=ALONE, precision="pure_bf16")
    readings = probe.read(lambda batch: {"": conv2d(batch["image"], weight).flatten()})
    assert (readings["logits/train"], readings["logits/held_out"]) == (4, -4)


@pytest.mark.parametrize("max_images", [None, 20])
def test_what_is_held_out_is_never_trained_on(tiny_shards: Path, max_images: int | None) -> None:
    plan = BatchPlan(str(tiny_shards), seed=1, global_batch=10, held_out=0.2, max_images=max_images)
    stream = BatchStream(plan)
    specs = {"image": FieldSpec("image", (1, 8, 8), "uint8")}
    held_out = held_out_reals(stream.dataset, plan, 100, specs)
    trained = trained_reals(stream.dataset, plan, 100, specs)
    assert (len(held_out), len(trained)) == (10, max_images or 40)
    seen = {image.tobytes() for _ in range(8) for image in next(stream).fields["image"]}
    stream.close()
    assert seen == {image.numpy().tobytes() for image in trained.fields["image"]}
    assert not seen & {image.numpy().tobytes() for image in held_out.fields["image"]}


def test_shards_give_evenly_and_keep_at_least_one() -> None:
    assert trained_counts([10, 10, 10], 0.1) == [9, 9, 9]
    assert trained_counts([10, 10, 10], 0.0) == [10, 10, 10]
    assert sum(trained_counts([8] * 100, 0.01)) == 792
    assert trained_counts([1, 1], 0.5) == [1, 1]


def test_asking_d_changes_nothing() -> None:
    networks = {
        "generator": {"kind": "biggan", "z_dim": 4, "width": 2},
        "discriminator": {"kind": "biggan", "width": 2},
        "optim": {"G": {"lr": 1e-3}, "D": {"lr": 1e-3}},
        "global_batch": 8,
    }
    config = parse_config(SynthesisConfig, networks, source="test")
    task = config.build_task(fields_of(ImageSpec(32, 1, 3)), {}, seed=0, device=torch.device("cpu"))
    player = task.players["D"]
    before = {name: value.clone() for name, value in player.state_dict().items()}
    image, label = torch.rand(4, 1, 32, 32), torch.tensor([0, 1, 2, 0])
    batch = Batch({"image": image, "class": label}, Draws(0, torch.arange(4)))
    once, again = (task.logits_of(player.networks(), batch)[""] for _ in range(2))
    assert torch.equal(once, again)
    assert all(torch.equal(before[name], value) for name, value in player.state_dict().items())
    player.networks()["D"](image, label)
    assert any(not torch.equal(before[name], value) for name, value in player.state_dict().items())

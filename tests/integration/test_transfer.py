"""A snapshot is trained further on two ranks, with a part of D frozen, and stages computed again in the backward."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bigtrain.checkpoint import load_state
from bigtrain.models import ImageSpec
from bigtrain.models.biggan import BigGANDiscriminatorConfig, BigGANGeneratorConfig
from tests.conftest import ROOT
from tests.integration.test_training import BIGTRAIN
from tests.snapshots import save_generator

pytestmark = pytest.mark.timeout(300)


def test_transfer_learning_with_frozen_stages(
    fashion: Path, tmp_path: Path, bigtrain: Callable[..., tuple[int, str, str]]
) -> None:
    image = ImageSpec(32, 1, 10)
    G_config = BigGANGeneratorConfig(z_dim=16, width=4, multiples=(4, 2, 2, 1))
    D_config = BigGANDiscriminatorConfig(width=4, multiples=(1, 2, 2, 2), halvings=3)
    torch.manual_seed(7)
    G, D = G_config.build(image), D_config.build(image)
    snapshot = tmp_path / "snapshot"
    save_generator(snapshot, G, G_config, class_names=list("0123456789"), discriminator=(D_config, D))
    overrides = [
        f"data.path={fashion}",
        f"run_dir={tmp_path / 'run'}",
        f"init_from.snapshot={snapshot}",
        "init_from.freeze={D: 2}",
        "activation_checkpointing=true",
        "total_kimg=0.16",
        "eval.interval_kimg=0",
        "preview.interval_kimg=0",
        "health.features_kimg=0",
        "tracking.mlflow=false",
    ]
    command = ["train", str(ROOT / "tests" / "tiny.yaml"), *overrides, "--nproc", "2"]
    done = subprocess.run([BIGTRAIN, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    (checkpoint,) = (tmp_path / "run" / "checkpoints").glob("kimg*")
    trained = load_state(checkpoint)["D"]["player"]
    parameters = dict(D.named_parameters())
    stages = {name: int(name.split(".")[1]) if name.startswith("blocks") else 9 for name in parameters}
    assert set(stages.values()) == {0, 1, 2, 3, 9}
    for name, before in parameters.items():
        assert torch.equal(trained[f"D.{name}"], before) == (stages[name] < 2), name

    (last,) = (tmp_path / "run" / "snapshots").glob("kimg*")
    averaged, start = load_file(last / "generator.safetensors"), G.state_dict()
    distance = max((averaged[name] - start[name]).abs().max().item() for name in dict(G.named_parameters()))
    assert 0 < distance < 0.02, "ten steps of 0.001 from where the snapshot was"

    code, _, told = bigtrain(*command, "data.classes=0", "run_dir=elsewhere")
    assert (code, told.count("\n")) == (2, 1)
    assert f"init_from: D in {snapshot} has classes 10, but in this run 0" in told

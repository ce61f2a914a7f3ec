"""The golden check finds wrong numbers among those of pix2pix and CycleGAN; tasks compute the published losses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from bigtrain.core.batch import Batch
from bigtrain.core.config import parse_config
from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress
from bigtrain.interop.check import check
from bigtrain.interop.errors import InteropError
from bigtrain.interop.golden import read_golden
from bigtrain.interop.peers.superres import rename
from bigtrain.interop.quantities import quantities_of
from bigtrain.models.hifigan import HiFiGANDiscriminatorConfig
from bigtrain.ops.mel import MelSettings
from bigtrain.tasks.translation import TranslationConfig
from data_pipelines.fields.spec import FieldSpec
from tests.numerics import golden


def wrong(folder: Path) -> set[str]:
    findings = check(folder, path="fast", precision="fp32", device=torch.device("cpu"))
    return {finding.name for finding in findings if not finding.fits}


def tampered(tmp_path: Path, name: str, document: Callable[[Any], object], io: Callable[[Any], object]) -> Path:
    folder = tmp_path / name
    shutil.copytree(golden.folder(name), folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    content = json.loads((folder / "config.json").read_text())
    document(content)
    (folder / "config.json").write_text(json.dumps(content))
    tensors = load_file(folder / "io.safetensors")
    io(tensors)
    save_file(tensors, folder / "io.safetensors")
    return folder


def test_wrong_numbers_of_pix2pix_are_found(tmp_path: Path) -> None:
    statistic = "after_train.G.model.model.1.model.2.running_var"

    def change(document: dict[str, Any]) -> None:
        document["loss_D_fake_lsgan_train"] *= 1.001
        document["loss_G_wgangp"] *= 1.001
        document["grad_norm_G_GAN_vanilla_train"]["model.model.3.bias"] *= 1.01
        document["grad_norm_D_pixel_lsgan"]["net.3.weight"] *= 1.01
        document["params_D_pixel"] += 1

    def exchange(io: dict[str, torch.Tensor]) -> None:
        io["gp_norms"] = io["gp_norms"] * 1.01
        io["fake_B_train"] = io["fake_B"].clone()
        io[statistic] = io[statistic] * 1.01  # the biased variance of so many pixels

    assert wrong(tampered(tmp_path, "pix2pix-unet64-batch", change, exchange)) == {
        *("loss_D_fake_lsgan_train", "loss_G_wgangp", "grad_norm_G_GAN_vanilla_train", "grad_norm_D_pixel_lsgan"),
        *("params_D_pixel", "gp_norms", "fake_B_train", statistic),
    }


def test_wrong_numbers_of_cyclegan_are_found(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["loss_idt_B"] *= 1.001
        largest = max(document["grad_norm_G_B_of_G"].values())
        document["grad_norm_G_B_of_G"]["model.1.bias"] = 1e-4 * largest

    def exchange(io: dict[str, torch.Tensor]) -> None:
        io["pool_out"] = io["pool_in"].clone()
        io["logits_D_A_real"] = io["logits_D_B_real"].clone()

    assert wrong(tampered(tmp_path, "cyclegan-resnet64", change, exchange)) == {
        *("loss_idt_B", "grad_norm_G_B_of_G", "pool_out", "logits_D_A_real"),
    }


@pytest.mark.parametrize(
    ("name", "document", "io", "words"),
    [
        ("pix2pix-unet64-batch", lambda document: document.update(loss_G_hinge=1.0), len, "'loss_G_hinge' is unknown"),
        ("pix2pix-unet64-batch", lambda document: document.update(made_by="x"), len, "'made_by' is unknown"),
        (
            "pix2pix-unet64-batch",
            lambda document: document["config"].update(netG="spade"),
            len,
            "neither unet nor resnet",
        ),
        (
            "pix2pix-unet64-batch",
            lambda document: document["grad_norm_D_lsgan"].update({"model.1.weight": 0.0}),
            len,
            "grad_norm_D_lsgan: the network has no parameter 'model.1.weight'",
        ),
        (
            "cyclegan-resnet64",
            len,
            lambda io: io.update({"after_train.G.x": torch.ones(1)}),
            "'after_train.G.x' is unknown",
        ),
        (
            "cyclegan-resnet64",
            lambda document: document["config"].update(gan_mode="x"),
            len,
            "gan_mode 'x' is not one of",
        ),
    ],
)
def test_what_is_not_understood_is_never_skipped(tmp_path: Path, name: str, document, io, words: str) -> None:
    with pytest.raises(InteropError, match=words) as caught:
        wrong(tampered(tmp_path, name, document, io))
    assert "\n" not in str(caught.value)


def test_a_vocoders_config_computes_the_published_objective() -> None:
    """Both halves of the discriminator in one player, the losses as a config names them: the reference's totals."""
    quantities = quantities_of(read_golden(golden.folder("hifigan-v3")), torch.device("cpu"))
    halves = [quantities.network(half) for half in ("MPD", "MSD")]
    D = HiFiGANDiscriminatorConfig(period_widths=(4, 16, 32, 32, 32), scale_widths=(16, 16, *[32] * 5))
    mel = {"rate": 22050, "low": 0.0}
    config = parse_config(
        TranslationConfig,
        {
            "generator": {"kind": "hifigan", "width": 64, "rates": [8, 8, 4], "kernels": [16, 16, 8], "block": 2}
            | {"block_kernels": [3, 5, 7], "dilations": [[1, 2], [2, 6], [3, 12]]},
            "discriminator": D.model_dump(mode="json"),
            "conditional": False,
            "objective": {
                "adversarial": "least_squares",  # halved here, and not in the paper
                "adversarial_weight": 2.0,
                "discriminator_weight": 2.0,
                "terms": {"mel": mel, "feature_matching": {"weight": 2.0, "distance": "l1"}},
            },
            "optim": {"G": {"lr": 1e-4}, "D": {"lr": 1e-4}},
            "global_batch": 2,
        },
        source="test",
    )
    sound = FieldSpec("audio", (1, 4096), "int16", rate=22050)
    task = config.build_task(
        {"input": FieldSpec("array", (80, 16), "float32"), "target": sound}, {}, seed=0, device=torch.device("cpu")
    )
    task.players["G"].G.load_state_dict(quantities.network("G").state_dict())
    task.players["D"].D.load_state_dict({**halves[0].state_dict(), **halves[1].state_dict()})
    given = MelSettings(rate=22050, high=8000.0).spectrogram(quantities.given("audio"))
    batch = Batch({"input": given, "target": quantities.given("audio")}, Draws(0, torch.arange(2)))
    networks = {name: network.eval() for player in task.players.values() for name, network in player.networks().items()}
    losses = {}
    for phase in task.phases(Progress(1000, 2)):
        rivals = {name: network for name, network in networks.items() if name != phase.player}
        losses[phase.player] = task.players[phase.player](phase, batch, rivals)[0].item()
    document = json.loads((golden.folder("hifigan-v3") / "config.json").read_text())
    assert losses["G"] == pytest.approx(document["loss_G_total"], rel=1e-4)
    assert losses["D"] == pytest.approx(document["loss_D_total"], rel=1e-4)


@pytest.mark.parametrize("name", ["esrgan-x4", "srgan-x2"])
def test_super_resolution_is_trained_by_the_published_losses(name: str) -> None:
    """The phases of a run compute the reference's losses and gradients; images are in [-1, 1], which doubles L1."""
    quantities = quantities_of(read_golden(golden.folder(name)), torch.device("cpu"))
    document = json.loads((golden.folder(name) / "config.json").read_text())
    settings, low, real = document["config"], 2 * quantities.given("low") - 1, 2 * quantities.given("real") - 1
    generator = {"kind": settings["g"], "scale": settings["scale"], "width": settings["feat"]}
    generator |= {"blocks": settings["blocks"], **({"growth": settings["grow"]} if settings["g"] == "rrdb" else {})}
    config = parse_config(
        TranslationConfig,
        {
            "generator": generator,
            "discriminator": {"kind": settings["d"].removesuffix("_sn"), "width": settings["d_feat"]},
            "conditional": False,
            "objective": {"adversarial_weight": 0.0, "terms": {"l1": {"weight": 0.5}}},
            "optim": {"G": {"lr": 1e-4}, "D": {"lr": 1e-4}},
            "global_batch": len(low),
        },
        source="test",
    )
    fields = {
        "input": FieldSpec("image", low.shape[1:], "uint8"),
        "target": FieldSpec("image", real.shape[1:], "uint8"),
    }
    task = config.build_task(fields, {}, seed=0, device=torch.device("cpu"))
    networks = {name: network.eval() for name, network in task.networks().items()}
    for part, network in networks.items():
        network.load_state_dict(quantities.network(part).state_dict())
    batch = Batch({"input": low, "target": real}, Draws(0, torch.arange(len(low))))
    losses = {}
    for phase in task.phases(Progress(1000, len(low))):
        rivals = {part: network for part, network in networks.items() if part != phase.player}
        losses[phase.player], _ = task.players[phase.player](phase, batch, rivals)
    fake = F.softplus(networks["D"](networks["G"](low).detach())).mean()
    for part, loss, key in (("G", losses["G"], "G_l1"), ("D", losses["D"] - fake, "D_nonsaturating_real")):
        networks[part].zero_grad()
        loss.backward()
        found = {name: value.grad.norm().item() for name, value in networks[part].named_parameters()}
        wanted = {rename(theirs): norm for theirs, norm in document[f"grad_norm_{key}"].items()}
        assert found == pytest.approx(wanted, rel=1e-3)

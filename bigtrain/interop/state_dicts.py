"""State dicts of PyTorch (`.pth`, `.pt`, `.safetensors`): BigGAN, R3GAN, rosinality's StyleGAN2, pix2pix, ESRGAN.

Such a file names no settings: they are read off the names and shapes.
"""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import safe_globals

from bigtrain.interop.errors import InteropError
from bigtrain.interop.foreign import Foreign, numbered, shape_of
from bigtrain.interop.rosinality import from_rosinality
from bigtrain.interop.translators import from_translator, is_translator
from bigtrain.interop.upscalers import from_upscaler, is_upscaler
from bigtrain.models.biggan import GENERATOR_WIDTHS
from data_pipelines.errors import first_line

_PARTS = {"g_ema": "G", "g": "G", "d": "D"}
"""What the parts of a file with several networks are called, whatever the case; the first that is there wins."""

_AVERAGED_FIRST = ("params_ema", "params")
"""What BasicSR calls the weights of a file's only network; the first that is there wins."""


class _Arguments:
    """Stands for the arguments that a training program keeps beside its weights: read, and thrown away."""

    def __setstate__(self, state: object) -> None:
        """Take nothing."""


_INERT: Any = [(_Arguments, "argparse.Namespace"), (_Arguments, "types.SimpleNamespace")]
"""Names that are no data, and that a file of weights may still have: none of them is looked up."""


def read_state_dicts(file: Path, discriminator: Path | None) -> Foreign:
    """Read the weights of a generator, and of a discriminator if there is one.

    Args:
        file: a state dict, or a mapping of names of _PARTS to state dicts.
        discriminator: the discriminator's own file, where it has one.

    Raises:
        InteropError: damaged, refused, or of no known network.
    """
    weights = _parts(file, default="G")
    if discriminator is not None:
        weights = {name: value for name, value in weights.items() if name.startswith("G.")}
        weights |= {name: value for name, value in _parts(discriminator, default="D").items() if name.startswith("D.")}
    try:
        if "G.conv1.conv.weight" in weights:
            return from_rosinality(weights)
        if "G.AggregationLayer.Layer.weight" in weights:
            return Foreign("r3gan", _r3gan(weights), weights)
        if is_upscaler(weights):
            return from_upscaler(weights)
        if is_translator(weights):
            return from_translator(weights)
        if "G.output_layer.2.weight" in weights:
            return Foreign("biggan", _biggan(weights), weights)
    except InteropError as error:
        raise InteropError(f"{file}: {error}") from None
    raise InteropError(
        f"{file}: its names are not those of BigGAN, R3GAN, rosinality's StyleGAN2, pix2pix, CycleGAN, ESRGAN or SRGAN"
    )


def _parts(file: Path, *, default: str) -> dict[str, Tensor]:
    content = _load(file)
    named = {key.lower(): value for key, value in content.items() if isinstance(value, Mapping)}
    for key in _AVERAGED_FIRST:
        if key in named:
            return _tensors(named[key], default)
    found: dict[str, Tensor] = {}
    for key, part in _PARTS.items():
        if key in named and not any(name.startswith(f"{part}.") for name in found):
            found |= _tensors(named[key], part)
    if "latent_avg" in content and found:
        found["G.latent_avg"] = content["latent_avg"]
    return found or _tensors(content, default)


def _tensors(content: Mapping[str, Any], part: str) -> dict[str, Tensor]:
    """Return the tensors, without what wrappers put before their names."""
    return {
        f"{part}.{re.sub(r'^(module|Model)[.]', '', name)}": value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }


def _load(file: Path) -> Mapping[str, Any]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with safe_globals(_INERT):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InteropError(f"{file}: no such file") from None
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        reason = (
            f"refused: it asks for {named[1]}, which is not data" if named else "the file contains more than weights"
        )
        raise InteropError(f"{file}: {reason}") from None
    except (OSError, RuntimeError, EOFError, SafetensorError) as error:
        raise InteropError(f"{file}: cannot be read ({first_line(error)})") from None
    if not isinstance(content, Mapping):
        raise InteropError(f"{file}: contains no state dict")
    return content


def _biggan(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    blocks = numbered(r"G\.blocks\.(\d+)\.0\.conv1\.weight", weights)
    deep = "G.blocks.0.0.conv4.weight" in weights
    # A BigGAN-deep block that doubles the resolution also changes the width, except where two stages are equally wide:
    # the number of blocks a stage is what both the table of widths and the number of blocks agree on.
    shared = shape_of(weights, "G.shared.weight")[1] if "G.shared.weight" in weights else 0
    gain = shape_of(weights, "G.blocks.0.0.bn1.gain.weight")
    first = shape_of(weights, "G.linear.weight")
    last = shape_of(weights, "G.output_layer.0.gain")[0]
    for depth in (1, 2, 3, 4) if deep else (1,):
        resolution = 4 * 2 ** (len(blocks) // depth)
        multiples = GENERATOR_WIDTHS.get(resolution, ())
        width = last // multiples[-1] if multiples else 0
        if multiples and len(blocks) % depth == 0 and first[0] == 16 * multiples[0] * width:
            break
    else:
        raise InteropError("the widths of BigGAN's blocks are not those of the paper")
    attention = numbered(r"G\.blocks\.(\d+)\.\d+\.gamma", weights)
    part = gain[1] - shared if shared else 0
    return {
        "resolution": resolution,
        "n_classes": shape_of(weights, "G.shared.weight")[0] if shared else gain[0],
        "attn": "_".join(str(4 * 2 ** ((after + 1) // depth)) for after in attention) or "0",
        "ch": width,
        "dim_z": part * (1 if deep else len(blocks) + 1) or first[1],
        "shared_dim": shared,
        "hier": part > 0,
        "g_shared": shared > 0,
        **({"deep": depth} if deep else {}),
    }


def _r3gan(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    stages = numbered(r"G\.MainLayers\.(\d+)\..*", weights)
    inner = "G.MainLayers.{}.Layers.1.LinearLayer{}.Layer.weight"
    grouped = [shape_of(weights, inner.format(stage, 2)) for stage in stages]
    features = shape_of(weights, "G.MainLayers.0.Layers.0.LinearLayer.weight")[1]
    embedded, classes = shape_of(weights, "G.EmbeddingLayer.weight") if "G.EmbeddingLayer.weight" in weights else (0, 0)
    settings = {
        "resolution": 4 * 2 ** (len(stages) - 1),
        "z_dim": features - embedded,
        "widths": [shape_of(weights, inner.format(stage, 1))[1] for stage in stages],
        "cardinality": [shape[0] // shape[1] for shape in grouped],
        "blocks": [
            len(numbered(rf"G\.MainLayers\.{stage}\.Layers\.(\d+)\.LinearLayer1\.Layer\.weight", weights))
            for stage in stages
        ],
        "c_dim": classes,
        "c_embed": embedded,
    }
    if "D.EmbeddingLayer.weight" in weights:
        settings["c_embed_d"] = weights["D.EmbeddingLayer.weight"].shape[0]
    return settings

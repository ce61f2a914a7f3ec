"""StyleGAN2 in the layout of rosinality's PyTorch port: the same networks by other names and in other shapes."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bigtrain.interop.foreign import Foreign, numbered, shape_of, widths_rule

_NAMES: dict[str, str] = {
    "conv.weight": "weight",
    "conv.modulation.weight": "affine.weight",
    "conv.modulation.bias": "affine.bias",
    "noise.weight": "noise_strength",
    "activate.bias": "bias",
    "bias": "bias",
}
"""Inside of one of G's layers."""

_NAMES_OF_D = {
    "convs.0.0.weight": "fromrgb.weight",
    "convs.0.1.bias": "fromrgb.bias",
    "conv1.0.weight": "conv0.weight",
    "conv1.1.bias": "conv0.bias",
    "conv2.0.kernel": "resample_filter",
    "conv2.1.weight": "conv1.weight",
    "conv2.2.bias": "conv1.bias",
    "skip.1.weight": "skip.weight",
    "final_conv.0.weight": "b4.conv.weight",
    "final_conv.1.bias": "b4.conv.bias",
    "final_linear.0.weight": "b4.fc.weight",
    "final_linear.0.bias": "b4.fc.bias",
    "final_linear.1.weight": "b4.out.weight",
    "final_linear.1.bias": "b4.out.bias",
}
"""Of D as a whole, and inside of one of its blocks."""


def from_rosinality(weights: Mapping[str, Tensor]) -> Foreign:
    """Give rosinality's weights the published names and shapes.

    Args:
        weights: by the port's names, after `G.` and `D.`.

    Raises:
        InteropError: a name is missing.
    """
    top = 4 * 2 ** len(numbered(r"G\.to_rgbs\.(\d+)\.bias", weights))
    names = ((name, rosinality_name(name, top)) for name in weights)
    renamed = {published: _reshaped(published, weights[name]) for name, published in names if published}
    w_dim = shape_of(renamed, "G.mapping.fc0.weight")[0]
    sizes = numbered(r"G\.synthesis\.b(\d+)\..*", renamed)
    settings: dict[str, Any] = {
        "resolution": top,
        "z_dim": shape_of(renamed, "G.mapping.fc0.weight")[1],
        "w_dim": w_dim,
        "c_dim": 0,
        "map_layers": len(numbered(r"G\.mapping\.fc(\d+)\.weight", renamed)),
        **widths_rule({size: renamed[f"G.synthesis.b{size}.conv1.weight"].shape[0] for size in sizes}),
        "g_arch": "skip",
    }
    if "D.b4.out.weight" in renamed:
        settings |= {"d_arch": "resnet", "mbstd_group": 4}
    calibrated = "G.mapping.w_avg" in renamed
    if not calibrated:
        renamed["G.mapping.w_avg"] = torch.zeros(w_dim)
    made_up = _noise_of(sizes, renamed)
    notes = (f"noise constants: {len(made_up)} are not in the file, and are drawn with seed 0",) if made_up else ()
    return Foreign("stylegan2", settings, renamed | made_up, calibrated=calibrated, notes=notes)


def _noise_of(sizes: Sequence[int], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the constant noise that weights without `noises.*` lack, as they are often published."""
    random = torch.Generator().manual_seed(0)
    layers = [(size, conv) for size in sizes for conv in ((1,) if size == 4 else (0, 1))]
    noise = {
        f"G.synthesis.b{size}.conv{conv}.noise_const": torch.randn(size, size, generator=random)
        for size, conv in layers
    }
    return {name: value for name, value in noise.items() if name not in weights}


def rosinality_name(name: str, top: int) -> str | None:
    """Return the published name of one of the port's weights.

    Args:
        name: after `G.` or `D.`.
        top: the images' resolution.

    Returns:
        None for a constant; a name that is not the port's stays as it is, and will find no place.
    """
    part, _, inner = name.partition(".")
    rules = _RULES_OF_G if part == "G" else _RULES_OF_D
    for pattern, publish in rules.items():
        if match := re.fullmatch(pattern, inner):
            published = publish(match, top)
            return published and f"{part}.{published}"
    return name


def _reshaped(published: str, value: Tensor) -> Tensor:
    """Drop the axes of length one that the port keeps for broadcasting."""
    match published.rpartition(".")[2]:
        case "resample_filter":
            return value / value.sum()  # the port's up-sampling filters include their gain
        case "noise_strength":
            return value.reshape(())
        case "bias" | "w_avg":
            return value.flatten()
        case "noise_const":
            return value.reshape(value.shape[-2:])
        case "const":
            return value.reshape(value.shape[-3:])
    return value[0] if value.ndim == 5 else value


Rule = Callable[[re.Match[str], int], str | None]

_RULES_OF_G: dict[str, Rule] = {
    r"latent_avg": lambda match, top: "mapping.w_avg",
    r"style\.(\d+)\.(weight|bias)": lambda match, top: f"mapping.fc{int(match[1]) - 1}.{match[2]}",
    r"input\.input": lambda match, top: "synthesis.b4.const",
    r"conv1\.(.+)": lambda match, top: f"synthesis.b4.conv1.{_NAMES[match[1]]}",
    r"to_rgb1\.(.+)": lambda match, top: f"synthesis.b4.torgb.{_NAMES[match[1]]}",
    r"noises\.noise_0": lambda match, top: "synthesis.b4.conv1.noise_const",
    r"noises\.noise_(\d+)": lambda match, top: f"{_layer(int(match[1]) - 1)}.noise_const",
    r"convs\.0\.conv\.blur\.kernel": lambda match, top: "synthesis.b4.resample_filter",
    r"convs\.\d+\.conv\.blur\.kernel|to_rgbs\.\d+\.upsample\.kernel": lambda match, top: None,
    r"convs\.(\d+)\.(.+)": lambda match, top: f"{_layer(int(match[1]))}.{_NAMES[match[2]]}",
    r"to_rgbs\.(\d+)\.(.+)": lambda match, top: f"synthesis.b{8 << int(match[1])}.torgb.{_NAMES[match[2]]}",
}

_RULES_OF_D: dict[str, Rule] = {
    r"convs\.0\..+": lambda match, top: f"b{top}.{_NAMES_OF_D[match[0]]}",
    r"convs\.\d+\.skip\.0\.kernel": lambda match, top: None,
    r"convs\.(\d+)\.(.+)": lambda match, top: f"b{top >> (int(match[1]) - 1)}.{_NAMES_OF_D[match[2]]}",
    r"final_.+": lambda match, top: _NAMES_OF_D[match[0]],
}


def _layer(index: int) -> str:
    """Two layers a resolution, from 8x8."""
    return f"synthesis.b{8 << index // 2}.conv{index % 2}"

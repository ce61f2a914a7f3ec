"""The published pickles of StyleGAN2-ADA and StyleGAN3: the networks as data, without the source that they carry."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from bigtrain.interop.errors import InteropError
from bigtrain.interop.foreign import Foreign, numbered, shape_of, widths_rule
from bigtrain.interop.pickles import PickledObject, PickledTensor, read_pickle

_UNKNOWN = object()
"""Stands for what a file should tell, and does not."""

_OF_STYLEGAN3 = {
    "num_layers",
    "num_critical",
    "first_cutoff",
    "first_stopband",
    "last_stopband_rel",
    "margin_size",
    "output_scale",
    "filter_size",
    "lrelu_upsampling",
    "magnitude_ema_beta",
}
"""Options of StyleGAN3's generator that its peer reads as they are."""


def read_nvidia(file: Path) -> Foreign:
    """Read a pickle of `G_ema` and `D`.

    Raises:
        InteropError: damaged, refused, or not such networks.
    """
    content = read_pickle(file)
    if not isinstance(content, dict) or not isinstance(content.get("G_ema"), PickledObject):
        raise InteropError(f"{file}: contains no G_ema: not a published pickle of StyleGAN2-ADA or StyleGAN3")
    parts = {part: content.get(key) for part, key in (("G", "G_ema"), ("D", "D"))}
    networks = {part: network for part, network in parts.items() if isinstance(network, PickledObject)}
    try:
        weights = {f"{part}.{name}": value for part, net in networks.items() for name, value in _tensors(net)}
        third = "G.synthesis.input.freqs" in weights
        settings = {**_of_mapping(weights), **(_stylegan3 if third else _stylegan2)(networks, weights)}
        if "D" in networks:
            settings["mbstd_group"] = _attribute(networks["D"], "b4.mbstd", "group_size")
            clamp = _attribute(networks["D"], f"b{settings['resolution']}.conv0", "conv_clamp")
            if clamp not in (_UNKNOWN, settings["conv_clamp"]):
                raise InteropError(
                    f"conv_clamp is {settings['conv_clamp']} in G and {clamp} in D: bigtrain has one value for both"
                )
        unknown = frozenset(name for name, value in settings.items() if value is _UNKNOWN)
        known = {name: value for name, value in settings.items() if name not in unknown}
        return Foreign("stylegan3" if third else "stylegan2", known, weights, unknown)
    except InteropError as error:
        raise InteropError(f"{file}: {error}") from None
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InteropError(f"{file}: not a published pickle ({error!r})") from None


def _stylegan2(networks: Mapping[str, PickledObject], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    resolutions = numbered(r"G\.synthesis\.b(\d+)\..*", weights)
    widths = {size: shape_of(weights, f"G.synthesis.b{size}.conv1.weight")[0] for size in resolutions}
    settings = {
        **widths_rule(widths),
        "resolution": resolutions[-1],
        "g_arch": architecture(weights, r"G\.synthesis\.b(\d+)\.", "torgb"),
        "conv_clamp": _attribute(networks["G"], "synthesis.b8.conv1", "conv_clamp"),
    }
    if "D" in networks:
        settings["d_arch"] = architecture(weights, r"D\.b(\d+)\.", "fromrgb")
    return settings


def _stylegan3(networks: Mapping[str, PickledObject], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    options = networks["G"].state.get("_init_kwargs", {})
    kernel, radial = options.get("conv_kernel", 3), options.get("use_radial_filters", False)
    if (kernel, radial) not in ((3, False), (1, True)):
        raise InteropError(f"conv_kernel {kernel} with use_radial_filters {radial} is neither StyleGAN3-T nor -R")
    return {
        **{name: options[name] for name in _OF_STYLEGAN3 & options.keys()},
        # What a file leaves out is the published default.
        "channel_base": options.get("channel_base", 32768),
        "channel_max": options.get("channel_max", 512),
        "conv_clamp": options.get("conv_clamp", 256),
        "variant": "r" if radial else "t",
        "resolution": options["img_resolution"],
    }


def architecture(weights: Mapping[str, Tensor], block: str, image_layer: str) -> str:
    """Return which of StyleGAN2's architectures has these names: `skip` has many image layers, `resnet` has skips."""
    if numbered(block + r"skip\.weight", weights):
        return "resnet"
    return "skip" if len(numbered(rf"{block}{image_layer}\.weight", weights)) > 1 else "orig"


def _of_mapping(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    layers = numbered(r"G\.mapping\.fc(\d+)\.weight", weights)
    w_dim, features = shape_of(weights, f"G.mapping.fc{layers[-1] if layers else 0}.weight")[0], 0
    classes = weights["G.mapping.embed.weight"].shape[1] if "G.mapping.embed.weight" in weights else 0
    features = shape_of(weights, "G.mapping.fc0.weight")[1]
    return {
        "z_dim": features - (w_dim if classes else 0),
        "w_dim": w_dim,
        "c_dim": classes,
        "map_layers": len(layers),
    }


def _tensors(network: PickledObject, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Iterate over a module's parameters and buffers, those of its children included."""
    state = network.state
    transient = state.get("_non_persistent_buffers_set", set())
    for name, value in {**state["_parameters"], **state["_buffers"]}.items():
        if isinstance(value, PickledTensor) and name not in transient:
            yield prefix + name, value.value
    for name, child in state["_modules"].items():
        yield from _tensors(child, f"{prefix}{name}.")


def _attribute(network: PickledObject, path: str, name: str) -> Any:
    """Return an attribute of a module inside of a network, or _UNTOLD."""
    module: Any = network
    for step in path.split("."):
        module = module.state["_modules"].get(step)
        if module is None:
            return _UNKNOWN
    return module.state.get(name, _UNKNOWN)

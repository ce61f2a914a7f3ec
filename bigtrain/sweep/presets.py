"""Spaces that GANs are usually searched in, around a base config; a new one is a function and a line in PRESETS."""

from collections.abc import Callable, Mapping
from typing import Literal

from bigtrain.config import TrainingConfig
from bigtrain.core.config import flatten
from bigtrain.sweep.space import Choice, LogUniform, Parameter, Ratio, Same, Uniform

PresetName = Literal["ttur", "r1", "ttur_r1", "ada", "ema"]
Parameters = dict[str, Parameter]

_R1 = "objective.terms.r1"


def preset(name: PresetName, base: TrainingConfig) -> Parameters:
    """Return a preset's parameters around a base config."""
    return PRESETS[name](base)


def ttur(base: TrainingConfig) -> Parameters:
    """Two time scales (Heusel et al. 2017): G's learning rate, D's in proportion, Adam's betas, D's updates."""
    lr_g, lr_d = _key(base, "optim.G.lr"), _key(base, "optim.D.lr")
    now = float(flatten(base.model_dump(mode="json"))[lr_g])
    return {
        lr_g: LogUniform(kind="log_uniform", low=now / 4, high=now * 4),
        lr_d: Ratio(kind="ratio", of=lr_g, low=0.25, high=4.0),
        **_moments(base),
        "objective.n_critic": Choice(kind="choice", values=(1, 2)),
    }


def _moments(base: TrainingConfig) -> Parameters:
    """The decays of Adam's moments, the same for G and D; none where one of them has another optimizer."""
    values: dict[str, tuple[float, ...]] = {"beta1": (0.0, 0.5), "beta2": (0.9, 0.99, 0.999)}
    known = flatten(base.model_dump(mode="json"))
    found: Parameters = {}
    for name, choices in values.items():
        key_g, key_d = (_key(base, f"optim.{player}.{name}") for player in "GD")
        if {key_g, key_d} <= known.keys():
            found[key_g] = Choice(kind="choice", values=choices)
            found[key_d] = Same(kind="same", of=key_g)
    return found


def r1(base: TrainingConfig) -> Parameters:
    """R1's weight in powers of two around 0.0002 · resolution² / batch (Karras et al. 2020b), and its interval."""
    centre = usual_gamma(base)
    return {
        _key(base, f"{_R1}.gamma"): Choice(kind="choice", values=tuple(centre * 2.0**power for power in range(-2, 3))),
        f"{_R1}.interval": Choice(kind="choice", values=(1, 4, 16)),
    }


def ttur_r1(base: TrainingConfig) -> Parameters:
    """The learning rates and R1's weight together, which hang on each other; what else `ttur` and `r1` vary stays."""
    rates, penalty = ttur(base), r1(base)
    kept = {_key(base, "optim.G.lr"), _key(base, "optim.D.lr"), _key(base, f"{_R1}.gamma")}
    return {key: parameter for key, parameter in {**rates, **penalty}.items() if key in kept}


def ada(base: TrainingConfig) -> Parameters:
    """Adaptive augmentation (Karras et al. 2020b): its target and speed, or a fixed p; and the average's half-life."""
    kind = "augment.probability.kind"
    return {
        "augment.kind": Choice(kind="choice", values=("ada",)),
        kind: Choice(kind="choice", values=("adaptive", "fixed")),
        "augment.probability.target": Uniform(kind="uniform", low=0.4, high=0.8, when={kind: "adaptive"}),
        "augment.probability.adjust_kimg": LogUniform(
            kind="log_uniform", low=base.total_kimg / 50, high=base.total_kimg / 2, when={kind: "adaptive"}
        ),
        "augment.probability.p": Uniform(kind="uniform", low=0.05, high=0.5, when={kind: "fixed"}),
        **{key: one for key, one in ema(base).items() if "half_life" in key},
    }


def ema(base: TrainingConfig) -> Parameters:
    """The average of the weights: its half-life, and how it is held back at the start."""
    key = _key(base, "ema.half_life_kimg")
    now = float(flatten(base.model_dump(mode="json"))[key])
    return {
        key: LogUniform(kind="log_uniform", low=now / 8, high=now * 4),
        "ema.rampup": Choice(kind="choice", values=(0.0, 0.05, 0.1)),
    }


PRESETS: Mapping[PresetName, Callable[[TrainingConfig], Parameters]] = {
    "ttur": ttur,
    "r1": r1,
    "ttur_r1": ttur_r1,
    "ada": ada,
    "ema": ema,
}


def usual_gamma(base: TrainingConfig) -> float:
    """Return what R1's gamma is usually tried around: 0.0002 · resolution² / batch."""
    resolution = next(iter(base.data.streams.values())).resolution
    return float(f"{0.0002 * resolution**2 / base.global_batch:.4g}")


def _key(base: TrainingConfig, key: str) -> str:
    """Return where a number stands: at the key, or, where the base has a schedule there, at its `value`."""
    return f"{key}.value" if f"{key}.value" in flatten(base.model_dump(mode="json")) else key

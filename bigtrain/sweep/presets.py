"""Search spaces that are common for GANs, around a base config. A new one is a function and an entry in PRESETS."""

import math
from collections.abc import Callable, Mapping
from typing import Literal

from bigtrain.config import TrainingConfig
from bigtrain.core.config import ConfigError, flatten
from bigtrain.sweep.space import Choice, LogUniform, Parameter, Ratio, Same, Uniform

PresetName = Literal["ttur", "r1", "ttur_r1", "ada", "ema"]
Parameters = dict[str, Parameter]

_R1 = "objective.terms.r1"


def preset(name: PresetName, base: TrainingConfig) -> Parameters:
    """Return a preset's parameters around a base config."""
    return PRESETS[name](base)


def ttur(base: TrainingConfig) -> Parameters:
    """Two time-scale updates (Heusel et al. 2017): learning rates, Adam's betas, discriminator steps a generator step.

    The discriminator's learning rate varies as a multiple of the generator's.
    """
    generator, discriminator = _of_players(base, "lr")
    now = float(flatten(base.model_dump(mode="json"))[generator])
    found: Parameters = {
        generator: LogUniform(kind="log_uniform", low=now / 4, high=now * 4),
        discriminator: Ratio(kind="ratio", of=generator, low=0.25, high=4.0),
        **_moments(base),
    }
    if "objective.n_critic" in flatten(base.model_dump(mode="json")):
        found["objective.n_critic"] = Choice(kind="choice", values=(1, 2))
    return found


def _moments(base: TrainingConfig) -> Parameters:
    """Return the decays of Adam's moments, the same for both players; none where one has another optimizer."""
    values: dict[str, tuple[float, ...]] = {"beta1": (0.0, 0.5), "beta2": (0.9, 0.99, 0.999)}
    known = flatten(base.model_dump(mode="json"))
    found: Parameters = {}
    for name, choices in values.items():
        first, second = _of_players(base, name)
        if {first, second} <= known.keys():
            found[first] = Choice(kind="choice", values=choices)
            found[second] = Same(kind="same", of=first)
    return found


def r1(base: TrainingConfig) -> Parameters:
    """R1's weight in powers of two around 0.0002 · resolution² / batch (Karras et al. 2020b), and its interval."""
    centre = usual_gamma(base)
    return {
        _key(base, f"{_R1}.gamma"): Choice(kind="choice", values=tuple(centre * 2.0**power for power in range(-2, 3))),
        f"{_R1}.interval": Choice(kind="choice", values=(1, 4, 16)),
    }


def ttur_r1(base: TrainingConfig) -> Parameters:
    """Learning rates and R1's weight, which interact; what else `ttur` and `r1` vary keeps the base config's values."""
    rates, penalty = ttur(base), r1(base)
    kept = {_key(base, key) for key in (*_of_players(base, "lr"), f"{_R1}.gamma")}
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
    """The half-life of the weights' average, and its ramp-up."""
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
    """Return the usual centre of a search for R1's gamma: 0.0002 · pixels / batch; of sounds, samples for pixels."""
    places = max(math.prod(spec.shape[1:]) for spec in base.data.field_specs().values())
    return float(f"{0.0002 * places / base.global_batch:.4g}")


def _of_players(base: TrainingConfig, setting: str) -> list[str]:
    """Return the keys of a setting of the generator's and of the discriminator's optimizer.

    Raises:
        ConfigError: the run has no player of one of these roles.
    """
    roles = {role: name for name, role in base.roles.items() if name in base.optim}
    for role in ("generator", "discriminator"):
        if role not in roles:
            raise ConfigError(f"preset: it varies the optimizers of two players, but this run has no {role}")
    return [_key(base, f"optim.{roles[role]}.{setting}") for role in ("generator", "discriminator")]


def _key(base: TrainingConfig, key: str) -> str:
    """Return the key of a number: the given key, or its `value` if the base config has a schedule there."""
    return f"{key}.value" if f"{key}.value" in flatten(base.model_dump(mode="json")) else key

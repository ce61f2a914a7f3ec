"""An average of any width after the training, from the power-function averages in a run's snapshots.

Karras et al. 2024 (EDM2), section 3.2 and appendix C: the profile t^γ that is wanted is approached, in least squares,
by a sum of the profiles that were saved; the same sum of their weights approaches the wanted average.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bigtrain.core.errors import UserError
from bigtrain.core.rng import Draws
from bigtrain.engine.ema import gamma_of
from bigtrain.generate.snapshot import load_snapshot, read_weights, rewrite_snapshot

_CALIBRATION = 1024


class PosthocError(UserError):
    """A run's snapshots do not make the average that is asked for."""


@dataclass(frozen=True)
class PowerAverage:
    """An average with the weight t^γ for the network of time t, up to the time of its snapshot.

    Attributes:
        sigma_rel: its width, a share of that time.
        time: images seen.
        folder: of the snapshot.
    """

    sigma_rel: float
    time: float
    folder: Path = field(default=Path())

    @property
    def gamma(self) -> float:
        """γ of the width."""
        return gamma_of(self.sigma_rel)


def inner_product(one: PowerAverage, other: PowerAverage) -> float:
    """Return ∫ p_one(t) p_other(t) dt of normalised profiles (Karras et al. 2024, appendix C)."""
    early, late = sorted((one, other), key=lambda profile: profile.time)
    total = one.gamma + other.gamma
    ratio = (early.time / late.time) ** late.gamma
    return float((one.gamma + 1) * (other.gamma + 1) * ratio / ((total + 1) * late.time))


def solve(saved: Sequence[PowerAverage], wanted: PowerAverage) -> tuple[NDArray[np.float64], float]:
    """Return the weights of saved profiles whose sum is nearest to the wanted one, and how far that is from it.

    Returns:
        Weights, shape [len(saved)]; the distance as a share of the wanted profile's length.
    """
    scale = np.array([inner_product(profile, profile) for profile in saved]) ** -0.5  # better numbers to solve with
    products = np.array([[inner_product(one, other) for other in saved] for one in saved])
    aims = np.array([inner_product(profile, wanted) for profile in saved])
    weights = scale * np.linalg.lstsq(products * np.outer(scale, scale), scale * aims, rcond=1e-12)[0]
    length = inner_product(wanted, wanted)
    rest = length - 2 * weights @ aims + weights @ products @ weights
    return weights, float(np.sqrt(max(rest, 0.0) / length))


def find_profiles(run: Path) -> list[PowerAverage]:
    """Return the power-function averages of all snapshots of a run.

    Raises:
        PosthocError: there are none.
    """
    found = []
    for description in sorted((run / "snapshots").glob("kimg*/sigma-*/snapshot.json")):
        facts = json.loads(description.read_text(encoding="utf-8"))
        found.append(PowerAverage(float(facts["sigma_rel"]), float(facts["samples_seen"]), description.parent))
    if not found:
        raise PosthocError(
            f"{run}: its snapshots contain no power-function averages; train with ema.profiles=[0.05,0.1]"
        )
    return found


def reconstruct(run: Path, sigma_rel: float, out: Path, *, kimg: float | None = None) -> float:
    """Write a snapshot with the average of width `sigma_rel`.

    Args:
        run: the run folder.
        sigma_rel: the width, above 0 and below 0.28.
        out: the snapshot's folder.
        kimg: of the snapshot at which the average ends; None for the last.

    Returns:
        How far the profile is from the wanted one, as a share of its length.

    Raises:
        PosthocError: there are no averages, no snapshot at `kimg`, the width is out of range, or `out` is not empty.
    """
    if not 0 < sigma_rel < 0.28:
        raise PosthocError(f"--sigma-rel {sigma_rel:g}: must be above 0 and below 0.28")
    if out.exists() and any(out.iterdir()):
        raise PosthocError(f"{out}: exists and is not empty; choose another --out")
    saved = find_profiles(run)
    times = sorted({profile.time for profile in saved})
    end = times[-1] if kimg is None else min(times, key=lambda time: abs(time - 1000 * kimg))
    if kimg is not None and abs(end - 1000 * kimg) > 1:
        near = f"the nearest is {end / 1000:g}"
        raise PosthocError(f"{run}: no snapshot with averages at kimg {kimg:g}; {near}")
    used = [profile for profile in saved if profile.time <= end]
    weights, distance = solve(used, PowerAverage(sigma_rel, end))
    last = next(profile for profile in used if profile.time == end)
    snapshot = load_snapshot(last.folder)
    for name, network in snapshot.networks.items():
        mixture = _mix(used, weights, name, [key for key, _ in network.named_parameters()])
        network.load_state_dict({**network.state_dict(), **mixture})
    with torch.no_grad():  # the statistics that sampling needs are no averages of others
        snapshot.sampler.calibrate(snapshot.networks, Draws(0, torch.arange(_CALIBRATION), "calibrate"))
    rewrite_snapshot(last.folder, out, snapshot.networks, sigma_rel=sigma_rel, profile_error=distance)
    return distance


def _mix(
    profiles: Sequence[PowerAverage], weights: NDArray[np.float64], network: str, names: Sequence[str]
) -> dict[str, Tensor]:
    """Add up a network's weighted parameters in float64: weights of either sign almost cancel."""
    total: dict[str, Tensor] = {}
    for profile, weight in zip(profiles, weights.tolist(), strict=True):
        state = read_weights(profile.folder, network)
        for name in names:
            part = state[name].double() * weight
            total[name] = total[name].add_(part) if name in total else part
    return {name: value.float() for name, value in total.items()}

"""What may be the scheduler of a sweep: nothing, or a scheduler of Ray Tune, by its own name or by a name of ours."""

import inspect
from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from bigtrain.core.config import Config
from bigtrain.sweep.ray_names import check_arguments, one_line, require_ray
from bigtrain.sweep.space import Space, Uniform

RayName = Literal[
    "async_hyperband",
    "asynchyperband",
    "median_stopping_rule",
    "medianstopping",
    "hyperband",
    "hb_bohb",
    "pbt",
    "pb2",
]
_OURS = ("time_attr", "metric", "mode", "synch", "log_config", "require_attrs", "custom_explore_fn")
_OF_SPACE = ("hyperparam_mutations", "hyperparam_bounds")
_COPYING, _PAUSING = ("pbt", "pb2"), ("hyperband", "hb_bohb")
_PROBE = Space({"x": Uniform(kind="uniform", low=0.0, high=1.0)}, [], {"x": 0.5})


class Scheduler(Config, ABC):
    """What stops, pauses or copies the trials of a sweep."""

    kind: str

    @property
    @abstractmethod
    def rays(self) -> "RayScheduler | None":
        """The scheduler of Ray Tune that decides; None if no trial is stopped early."""

    @property
    def averaged(self) -> int:
        """Number of newest scores that are averaged where trials copy each other."""
        return 1

    def boundaries(self, total_kimg: float) -> list[int]:
        """Return after how many images trials wait for each other to be copied; the end of training is not included."""
        rays = self.rays
        if rays is None or rays.name not in _COPYING:
            return []
        interval, least = rays.args["perturbation_interval"], rays.args.get("burn_in_period", 0.0)
        places = [round(1000 * interval * number) for number in range(1, int(total_kimg / interval) + 1)]
        return [place for place in places if 1000 * least <= place < 1000 * total_kimg]


class NoScheduler(Scheduler):
    """No trial is stopped early."""

    kind: Literal["none"] = "none"

    @property
    def rays(self) -> None:
        """See the base."""
        return


class RayScheduler(Scheduler):
    """A scheduler of Ray Tune (`ray.tune.schedulers`); time is thousands of images.

    `pbt` and `pb2` wait for all trials at each multiple of `perturbation_interval` (Ray's `synch`), and vary what the
    space of the sweep contains.

    Attributes:
        kind: `ray`.
        name: name of the scheduler in `ray.tune.schedulers.create_scheduler`.
        args: its own arguments, such as `grace_period`; `max_t` is `total_kimg` unless given.
    """

    kind: Literal["ray"]
    name: RayName
    args: dict[str, Any] = Field(default={})

    @model_validator(mode="after")
    def _is_known_to_ray(self) -> "RayScheduler":
        require_ray()
        from ray.tune.schedulers import SCHEDULER_IMPORT

        found = SCHEDULER_IMPORT[self.name]
        parameters = inspect.signature(found if inspect.isclass(found) else found()).parameters
        check_arguments(self.name, self.args, [one for one in parameters if one not in (*_OURS, *_OF_SPACE)])
        if self.copies and not isinstance(self.args.get("perturbation_interval"), int | float):
            raise ValueError(f"args: {self.name} needs perturbation_interval, in kimg")
        try:
            self.make(100.0, _PROBE)
        except Exception as error:  # whatever Ray raises about the values
            raise ValueError(f"args: {self.name} rejects them: {one_line(error)}") from None
        return self

    @property
    def rays(self) -> "RayScheduler":
        """See the base."""
        return self

    @property
    def copies(self) -> bool:
        """Whether trials continue from checkpoints of others."""
        return self.name in _COPYING

    @property
    def pauses(self) -> bool:
        """Whether trials wait for each other, until it is known which of them continue."""
        return self.name in _PAUSING

    def make(self, total_kimg: float, space: Space) -> Any:
        """Return a new scheduler of Ray.

        Raises:
            ValueError: the scheduler does not suit the space.
        """
        from ray import tune
        from ray.tune.schedulers import create_scheduler

        usual: dict[str, Any] = {"time_attr": "kimg", "metric": "score", "mode": "min"}
        usual["max_t"] = max(total_kimg, float(self.args.get("grace_period", 1)))  # left out where it is not known
        if self.pauses and int(self.args.get("max_t", total_kimg)) < 1:
            raise ValueError("it pauses trials at whole kimg, so that a training must have more than 1")
        if self.pauses:  # the last rung may be below total_kimg, because rungs are whole kimg
            usual["stop_last_trials"] = False
        if not self.copies:
            return create_scheduler(self.name, **{**usual, **self.args})
        choices = [key for key, one in space.dimensions.items() if one.values]
        if self.name == "pb2" and choices:
            raise ValueError(f"pb2 varies only numbers, but '{choices[0]}' is a choice")
        # The time of these is the number of boundaries, so that no boundary is missed by rounding.
        usual |= {"time_attr": "boundary", "synch": True, "log_config": False}
        domains = {
            key: list(one.values) or (tune.loguniform if one.log else tune.uniform)(one.low, one.high)
            for key, one in space.dimensions.items()
        }
        given = {**self.args, "perturbation_interval": 1, "burn_in_period": 0}
        return create_scheduler(
            self.name,
            **{**usual, **given},
            hyperparam_mutations=domains,
            hyperparam_bounds={key: [0.0, 1.0] for key in domains},
        )


class _Named(Scheduler, ABC):
    """A scheduler of Ray Tune with names of ours."""

    def _rays(self, name: RayName, **arguments: Any) -> RayScheduler:
        return RayScheduler.model_construct(kind="ray", name=name, args=arguments)


class ASHA(_Named):
    """Asynchronous successive halving (Li et al. 2020) of Ray Tune, where the resource is the number of images seen.

    At the rungs `grace_kimg`, `grace_kimg · reduction`, … the best 1/`reduction` of the trials that have reached the
    rung go on.

    Attributes:
        grace_kimg: thousands of images before which no trial is stopped.
        reduction: reduction factor (eta in the paper).
    """

    kind: Literal["asha"]
    grace_kimg: PositiveFloat
    reduction: Annotated[float, Field(gt=1)] = 3.0

    @property
    def rays(self) -> RayScheduler:
        """See the base."""
        return self._rays("async_hyperband", grace_period=self.grace_kimg, reduction_factor=self.reduction)


class MedianStopping(_Named):
    """Ray Tune's median stopping rule (Golovin et al. 2017, section 3.2).

    A trial is stopped if its best score is worse than the median of the other trials' average scores.

    Attributes:
        grace_kimg: thousands of images before which no trial is stopped, and whose scores do not count.
        least: number of other trials that must have come as far.
    """

    kind: Literal["median"]
    grace_kimg: PositiveFloat
    least: PositiveInt = 3

    @property
    def rays(self) -> RayScheduler:
        """See the base."""
        return self._rays("median_stopping_rule", grace_period=self.grace_kimg, min_samples_required=self.least)


class PBT(_Named):
    """Ray Tune's population-based training (Jaderberg et al. 2017).

    All trials run to each boundary. Then each trial of the lowest quantile continues from the checkpoint of one of the
    highest (exploit) with perturbed hyperparameters (explore). Hyperparameters that change the networks cannot vary.

    Attributes:
        interval_kimg: thousands of images between two boundaries, a multiple of the interval of evaluations.
        quantile: share of the population that is replaced, and share from which is copied.
        resample: probability that a value is drawn anew; otherwise it is multiplied by one of `factors`.
        factors: factors of the perturbation.
        evaluations: number of newest scores between two boundaries that are averaged.
    """

    kind: Literal["pbt"]
    interval_kimg: PositiveFloat
    quantile: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    resample: Annotated[float, Field(ge=0, le=1)] = 0.25
    factors: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.8, 1.25)
    evaluations: PositiveInt = 3

    @property
    def rays(self) -> RayScheduler:
        """See the base."""
        return self._rays(
            "pbt",
            perturbation_interval=self.interval_kimg,
            quantile_fraction=self.quantile,
            resample_probability=self.resample,
            perturbation_factors=self.factors,
        )

    @property
    def averaged(self) -> int:
        """See the base."""
        return self.evaluations


AnyScheduler = Annotated[NoScheduler | ASHA | MedianStopping | RayScheduler | PBT, Field(discriminator="kind")]

"""The search space of a sweep: which keys of the base config vary, and over which values."""

import itertools
import math
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from bigtrain.core.config import Config, ConfigError

Value = bool | int | float | str | None
Point = dict[str, Value]
"""What one trial changes in the base config: values by dotted keys."""

_DRAWS = 1000
"""How many random points are drawn until one satisfies the constraints."""


@dataclass(frozen=True)
class Dimension:
    """One coordinate of a search space: a range of numbers, or some values.

    Attributes:
        low: lower bound of the range.
        high: upper bound of the range.
        log: whether the range has a logarithmic scale.
        steps: number of values of the range in a grid.
        values: the values, if there is no range.
    """

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    steps: int = 1
    values: tuple[Value, ...] = ()

    def at(self, share: float) -> float:
        """Return the number at a share of the range, from 0 (`low`) to 1 (`high`)."""
        return (
            float(self.low * (self.high / self.low) ** share) if self.log else self.low + (self.high - self.low) * share
        )

    def share(self, value: Value) -> Value:
        """Return the share of the range at which a number is: the inverse of `at`; a value that is chosen stays."""
        if self.values:
            return value
        scale: Callable[[float], float] = math.log if self.log else float
        low, high = scale(self.low), scale(self.high)
        return min(max((scale(_number(value)) - low) / (high - low), 0.0), 1.0)

    def draw(self, source: random.Random) -> Value:
        """Return a random value."""
        return source.choice(self.values) if self.values else self.at(source.random())

    def grid(self) -> list[Value]:
        """Return the values of a grid."""
        return list(self.values) or [self.at(step / max(self.steps - 1, 1)) for step in range(self.steps)]

    def near(self, value: Value) -> Value:
        """Return the nearest value of this dimension; the base config may lie outside, and points are rounded."""
        if not self.values:
            return min(max(_number(value), self.low), self.high)
        if value in self.values:
            return self.values[self.values.index(value)]  # not NumPy's, which some libraries return
        return min(self.values, key=lambda one: _apart(one, value))


class Parameter(Config, ABC):
    """How a key of the base config varies.

    Attributes:
        when: the key varies only if these keys have these values (one value, or one of a list); otherwise it keeps the
            value of the base config.
    """

    kind: str
    when: dict[str, Value | tuple[Value, ...]] = Field(default={})

    @property
    def needs(self) -> set[str]:
        """Keys whose values must be known before this one is suggested."""
        return set(self.when)

    def applies(self, known: Mapping[str, Value]) -> bool:
        """Return whether the key varies, given the values of other keys."""
        return all(
            known.get(key) in (wanted if isinstance(wanted, tuple) else (wanted,)) for key, wanted in self.when.items()
        )

    @property
    @abstractmethod
    def dimension(self) -> Dimension | None:
        """What is searched; None if the value follows from those of other keys."""

    def value(self, coordinate: Value, known: Mapping[str, Value]) -> Value:
        """Return the value of the key at a coordinate of its dimension, given the values of other keys."""
        return coordinate

    def coordinate(self, value: Value, known: Mapping[str, Value]) -> Value:
        """Return the coordinate of a value of the key: the inverse of `value`."""
        return value


class _Range(Parameter):
    low: float
    high: float
    steps: PositiveInt = 5

    @model_validator(mode="after")
    def _is_a_range(self) -> "_Range":
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if self.kind != "uniform" and self.low <= 0:
            raise ValueError(f"low must be above 0 for '{self.kind}', not {self.low:g}")
        return self

    @property
    def dimension(self) -> Dimension:
        """See Parameter."""
        return Dimension(self.low, self.high, self.kind != "uniform", self.steps)

    def value(self, coordinate: Value, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        return _short(_number(coordinate))


class Uniform(_Range):
    """A number in [low, high] on a linear scale; a grid has `steps` values."""

    kind: Literal["uniform"]


class LogUniform(_Range):
    """A number in [low, high] on a logarithmic scale; a grid has `steps` values."""

    kind: Literal["log_uniform"]


class Ratio(_Range):
    """A multiple of another key's value, on a logarithmic scale: `optim.D.lr: {kind: ratio, of: optim.G.lr, …}`.

    Attributes:
        of: the other key.
    """

    kind: Literal["ratio"]
    of: str

    @property
    def needs(self) -> set[str]:
        """See Parameter."""
        return {*self.when, self.of}

    def value(self, coordinate: Value, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        return _short(_number(coordinate) * _number(known.get(self.of)))

    def coordinate(self, value: Value, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        return _number(value) / _number(known.get(self.of))


class Choice(Parameter):
    """One of some values; numbers should be in ascending order, since PBT goes to a neighbour in this order."""

    kind: Literal["choice"]
    values: Annotated[tuple[Value, ...], Field(min_length=1)]

    @property
    def dimension(self) -> Dimension | None:
        """See Parameter."""
        return Dimension(values=self.values) if len(self.values) > 1 else None

    def value(self, coordinate: Value, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        return coordinate if len(self.values) > 1 else self.values[0]


class Same(Parameter):
    """The value of another key: `optim.D.beta1: {kind: same, of: optim.G.beta1}`.

    Attributes:
        of: the other key.
    """

    kind: Literal["same"]
    of: str

    @property
    def needs(self) -> set[str]:
        """See Parameter."""
        return {*self.when, self.of}

    @property
    def dimension(self) -> None:
        """See Parameter."""
        return None

    def value(self, coordinate: Value, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        return known.get(self.of)


AnyParameter = Annotated[Uniform | LogUniform | Ratio | Choice | Same, Field(discriminator="kind")]

_COMPARISON = re.compile(r"^\s*([\w.]+)\s*(<=|>=|<|>)\s*(?:([\d.eE+-]+)\s*\*\s*)?([\w.+-]+)\s*$")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}


class Constraint:
    """A condition on the values of keys: `optim.D.lr >= 0.5 * optim.G.lr`, `optim.G.beta1 < 0.9`.

    Raises:
        ConfigError: the text has another form.
    """

    def __init__(self, text: str) -> None:
        found = _COMPARISON.match(text)
        if found is None:
            raise ConfigError(f"constraint {text!r}: write KEY < NUMBER, or KEY <= NUMBER * KEY (also >, >=)")
        self.text = text
        self._left, self._sign, factor, self._right = found.groups()
        self._factor = float(factor or 1.0)

    @property
    def keys(self) -> set[str]:
        """The keys that are compared."""
        return {self._left} | (set() if _is_number(self._right) else {self._right})

    def holds(self, known: Mapping[str, Value]) -> bool:
        """Return whether the condition holds; it does if one of its keys has no value."""
        right = float(self._right) if _is_number(self._right) else known.get(self._right)
        left = known.get(self._left)
        if left is None or right is None:
            return True
        return _COMPARE[self._sign](_number(left), self._factor * _number(right))


class Space:
    """A search space.

    Args:
        parameters: how each key varies.
        constraints: conditions that each point satisfies.
        base: all values of the base config, by dotted key.

    Attributes:
        parameters: how each key varies; each one after those on whose values it depends.
        dimensions: what is searched, by key: the parameters without those that follow from others.

    Raises:
        ConfigError: parameters depend on each other in a circle, or on a key that does not exist.
    """

    def __init__(
        self, parameters: Mapping[str, Parameter], constraints: Sequence[Constraint], base: Mapping[str, Value]
    ) -> None:
        self._constraints, self.base_values = constraints, base
        self.parameters = dict(_in_order(parameters))
        self.dimensions = {key: one.dimension for key, one in self.parameters.items() if one.dimension is not None}
        self._declared = list(parameters)
        known = {*base, *parameters}
        for owner, keys in [
            *((f"space '{key}'", parameter.needs) for key, parameter in parameters.items()),
            *((f"constraint '{one.text}'", one.keys) for one in constraints),
        ]:
            if missing := sorted(keys - known):
                raise ConfigError(f"{owner}: '{missing[0]}' is neither in the space nor in the base config")

    @property
    def varying(self) -> list[str]:
        """Keys with more than one value of their own, in the order in which they were declared."""

        def follows(one: Parameter) -> bool:
            return isinstance(one, Same) or (isinstance(one, Choice) and len(one.values) == 1)

        return [key for key in self._declared if not follows(self.parameters[key])]

    def base_point(self) -> Point:
        """Return the base config's values of the space's keys."""
        return {key: self.base_values[key] for key in self.parameters if key in self.base_values}

    def point(self, choose: Callable[[str, Dimension], Value]) -> Point | None:
        """Return the point whose coordinates `choose` returns by key; None if it does not satisfy the constraints."""
        point: Point = {}
        for key, parameter in self.parameters.items():
            known = {**self.base_values, **point}
            if parameter.applies(known):
                dimension = parameter.dimension
                point[key] = parameter.value(None if dimension is None else choose(key, dimension), known)
        return point if self.allows(point) else None

    def at(self, coordinates: Mapping[str, Value]) -> Point | None:
        """Return the point at these coordinates, moved into the space; None if it does not satisfy the constraints."""
        return self.point(lambda key, dimension: dimension.near(coordinates[key]))

    def coordinates(self, point: Point) -> Point:
        """Return the coordinates of a point, moved into the space; without those that do not apply there."""
        known = {**self.base_values, **point}
        return {
            key: dimension.near(self.parameters[key].coordinate(known[key], known))
            for key, dimension in self.dimensions.items()
            if key in point and self.parameters[key].applies(known)
        }

    def all_coordinates(self, point: Point) -> Point:
        """Return the coordinates of a point; those that do not apply there have any value."""
        return {**{key: one.grid()[0] for key, one in self.dimensions.items()}, **self.coordinates(point)}

    def to_shares(self, coordinates: Point) -> Point:
        """Return coordinates with numbers replaced by their places in their ranges, from 0 to 1."""
        return {key: self.dimensions[key].share(one) for key, one in coordinates.items()}

    def from_shares(self, shares: Point) -> Point:
        """Return the coordinates of which `to_shares` made these."""
        ranges = {key: one for key, one in self.dimensions.items() if not one.values}
        return {key: ranges[key].at(_number(one)) if key in ranges else one for key, one in shares.items()}

    def allows(self, point: Point) -> bool:
        """Return whether a point satisfies the constraints."""
        known = {**self.base_values, **point}
        return all(constraint.holds(known) for constraint in self._constraints)

    def draw(self, seed: str) -> Point:
        """Return a random point, a function of the seed alone.

        Raises:
            ConfigError: no point that satisfies the constraints was found.
        """
        source = random.Random(seed)  # noqa: S311 - no secrets
        for _ in range(_DRAWS):
            point = self.point(lambda key, dimension: dimension.draw(source))
            if point is not None:
                return point
        conditions = " and ".join(constraint.text for constraint in self._constraints)
        raise ConfigError(f"constraints: none of {_DRAWS} random points satisfies {conditions}")

    def grid(self) -> Iterator[Point]:
        """Iterate over all points of the grid."""
        tried = set()
        for values in itertools.product(*(dimension.grid() for dimension in self.dimensions.values())):
            point = self.at(dict(zip(self.dimensions, values, strict=True)))
            if point is not None and (own := tuple(point.items())) not in tried:
                tried.add(own)  # coordinates that do not apply make no new point
                yield point


def _in_order(parameters: Mapping[str, Parameter]) -> Iterator[tuple[str, Parameter]]:
    """Iterate over parameters, each one after those on whose values it depends."""
    waiting = dict(parameters)
    while waiting:
        ready = [key for key, one in waiting.items() if not one.needs & (waiting.keys() - {key})]
        if not ready or any(key in waiting[key].needs for key in ready):
            raise ConfigError(f"space: {', '.join(sorted(waiting))} depend on each other in a circle")
        yield from ((key, waiting.pop(key)) for key in ready)


def _number(value: Value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"space: {value!r} is not a number, but is compared or multiplied")
    return float(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _short(number: float) -> float:
    """Round to four significant digits."""
    return float(f"{number:.4g}")


def _apart(one: Value, other: Value) -> float:
    return abs(float(one) - float(other)) if isinstance(one, int | float) and isinstance(other, int | float) else 1.0

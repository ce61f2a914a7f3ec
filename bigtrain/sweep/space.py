"""The space of a sweep: which keys of the base config vary, and how. A point of it is what one trial changes."""

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Literal, Protocol

from pydantic import Field, PositiveInt, model_validator

from bigtrain.core.config import Config, ConfigError

Value = bool | int | float | str | None
Point = dict[str, Value]
"""Values by dotted keys of the training config."""

_DRAWS = 1000
"""How often to look for a point that the constraints allow."""


class Chooser(Protocol):
    """Who picks values: chance, a grid, or an optimizer."""

    def number(self, name: str, low: float, high: float, *, log: bool, steps: int) -> float:
        """Pick a number between two."""
        ...

    def one_of(self, name: str, values: Sequence[Value]) -> Value:
        """Pick one of some values."""
        ...


class Parameter(Config, ABC):
    """A key that varies.

    Attributes:
        when: only where these keys have these values (one, or one of a list); elsewhere the base's value stays.
    """

    kind: str
    when: dict[str, Value | tuple[Value, ...]] = Field(default={})

    @property
    def needs(self) -> set[str]:
        """Keys that must be known before."""
        return set(self.when)

    def applies(self, known: Mapping[str, Value]) -> bool:
        """Tell whether the key varies where others have these values."""
        return all(
            known.get(key) in (wanted if isinstance(wanted, tuple) else (wanted,)) for key, wanted in self.when.items()
        )

    @abstractmethod
    def pick(self, key: str, chooser: Chooser, known: Mapping[str, Value]) -> Value:
        """Let the chooser pick a value."""

    @abstractmethod
    def move(self, value: Value, factor: float, known: Mapping[str, Value]) -> Value:
        """Return a neighbour of a value within the space: times `factor`, or the next one up (above 1) or down."""


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

    def pick(self, key: str, chooser: Chooser, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        return _short(chooser.number(key, self.low, self.high, log=self.kind != "uniform", steps=self.steps))

    def move(self, value: Value, factor: float, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        return _short(min(max(_number(value) * factor, self.low), self.high))


class Uniform(_Range):
    """A number between two, all alike; a grid has `steps` of them."""

    kind: Literal["uniform"]


class LogUniform(_Range):
    """A number between two, all orders of magnitude alike; a grid has `steps` of them."""

    kind: Literal["log_uniform"]


class Ratio(_Range):
    """So many times another key's value, on a log scale: `optim.D.lr: {kind: ratio, of: optim.G.lr, …}`.

    Attributes:
        of: the other key.
    """

    kind: Literal["ratio"]
    of: str

    @property
    def needs(self) -> set[str]:
        """See Parameter."""
        return {*self.when, self.of}

    def pick(self, key: str, chooser: Chooser, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        factor = chooser.number(f"{key} / {self.of}", self.low, self.high, log=True, steps=self.steps)
        return _short(factor * _number(known.get(self.of)))

    def move(self, value: Value, factor: float, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        other = _number(known.get(self.of))
        return _short(min(max(_number(value) * factor, self.low * other), self.high * other))


class Choice(Parameter):
    """One of some values; numbers in rising order, so that neighbours are near."""

    kind: Literal["choice"]
    values: Annotated[tuple[Value, ...], Field(min_length=1)]

    def pick(self, key: str, chooser: Chooser, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        return self.values[0] if len(self.values) == 1 else chooser.one_of(key, self.values)

    def move(self, value: Value, factor: float, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        place = self.values.index(value) if value in self.values else 0
        return self.values[min(max(place + (1 if factor > 1 else -1), 0), len(self.values) - 1)]


class Same(Parameter):
    """What another key has: `optim.D.beta1: {kind: same, of: optim.G.beta1}`.

    Attributes:
        of: the other key.
    """

    kind: Literal["same"]
    of: str

    @property
    def needs(self) -> set[str]:
        """See Parameter."""
        return {*self.when, self.of}

    def pick(self, key: str, chooser: Chooser, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        return known.get(self.of)

    def move(self, value: Value, factor: float, known: Mapping[str, Value]) -> Value:
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
    """What must hold between keys: `optim.D.lr >= 0.5 * optim.G.lr`, `optim.G.beta1 < 0.9`.

    Raises:
        ConfigError: it is written otherwise.
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
        """The keys that it compares."""
        return {self._left} | (set() if _is_number(self._right) else {self._right})

    def holds(self, known: Mapping[str, Value]) -> bool:
        """Tell whether it holds; what a point does not have cannot break it."""
        right = float(self._right) if _is_number(self._right) else known.get(self._right)
        left = known.get(self._left)
        if left is None or right is None:
            return True
        return _COMPARE[self._sign](_number(left), self._factor * _number(right))


class Space:
    """All parameters together.

    Args:
        parameters: by key.
        constraints: of all points.
        base: every value of the base config, by dotted key.

    Raises:
        ConfigError: parameters wait for each other, or name a key that nothing has.
    """

    def __init__(
        self, parameters: Mapping[str, Parameter], constraints: Sequence[Constraint], base: Mapping[str, Value]
    ) -> None:
        self._constraints, self.base_values = constraints, base
        self.parameters = dict(_in_order(parameters))
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
        """Keys with more than one value of their own, as they were declared."""

        def follows(one: Parameter) -> bool:
            return isinstance(one, Same) or (isinstance(one, Choice) and len(one.values) == 1)

        return [key for key in self._declared if not follows(self.parameters[key])]

    def base_point(self) -> Point:
        """Return what the base config has at the space's keys."""
        return {key: self.base_values[key] for key in self.parameters if key in self.base_values}

    def pick(self, chooser: Chooser) -> Point | None:
        """Let a chooser pick a point; None if the constraints forbid it."""
        point: Point = {}
        for key, parameter in self.parameters.items():
            known = {**self.base_values, **point}
            if parameter.applies(known):
                point[key] = parameter.pick(key, chooser, known)
        return point if self.allows(point) else None

    def allows(self, point: Point) -> bool:
        """Tell whether the constraints hold."""
        known = {**self.base_values, **point}
        return all(constraint.holds(known) for constraint in self._constraints)

    def draw(self, seed: str) -> Point:
        """Return a random point, always the same of a seed.

        Raises:
            ConfigError: the constraints leave next to nothing.
        """
        chance = Chance(random.Random(seed))  # noqa: S311 - chance, not secrets
        for _ in range(_DRAWS):
            point = self.pick(chance)
            if point is not None:
                return point
        told = " and ".join(constraint.text for constraint in self._constraints)
        raise ConfigError(f"constraints: none of {_DRAWS} random points has {told}")

    def grid(self) -> Iterator[Point]:
        """Iterate over all points of the grid."""
        odometer = Odometer()
        while odometer.more:
            odometer.begin()
            point = self.pick(odometer)
            if point is not None:
                yield point
            odometer.advance()


class Chance:
    """Picks at random."""

    def __init__(self, source: random.Random) -> None:
        self._source = source

    def number(self, name: str, low: float, high: float, *, log: bool, steps: int) -> float:
        """See Chooser."""
        share = self._source.random()
        return float(low * (high / low) ** share) if log else low + (high - low) * share

    def one_of(self, name: str, values: Sequence[Value]) -> Value:
        """See Chooser."""
        return self._source.choice(values)


class Odometer:
    """Walks through all picks, the last one fastest; what is picked may depend on what was picked before."""

    def __init__(self) -> None:
        self._digits: list[int] = []
        self._bases: list[int] = []
        self.more = True

    def begin(self) -> None:
        """Begin a point."""
        self._bases = []

    def advance(self) -> None:
        """Go to the next point."""
        digits = self._digits[: len(self._bases)]
        while digits and digits[-1] + 1 == self._bases[len(digits) - 1]:
            digits.pop()
        self.more = bool(digits)
        self._digits = [*digits[:-1], digits[-1] + 1] if digits else []

    def number(self, name: str, low: float, high: float, *, log: bool, steps: int) -> float:
        """See Chooser."""
        share = self._digit(steps) / max(steps - 1, 1)
        return float(low * (high / low) ** share) if log else low + (high - low) * share

    def one_of(self, name: str, values: Sequence[Value]) -> Value:
        """See Chooser."""
        return values[self._digit(len(values))]

    def _digit(self, base: int) -> int:
        place = len(self._bases)
        self._bases.append(base)
        if place == len(self._digits):
            self._digits.append(0)
        return self._digits[place]


def _in_order(parameters: Mapping[str, Parameter]) -> Iterator[tuple[str, Parameter]]:
    """Iterate over parameters so that each comes after those that it needs."""
    waiting = dict(parameters)
    while waiting:
        ready = [key for key, one in waiting.items() if not one.needs & (waiting.keys() - {key})]
        if not ready or any(key in waiting[key].needs for key in ready):
            raise ConfigError(f"space: {', '.join(sorted(waiting))} wait for each other")
        yield from ((key, waiting.pop(key)) for key in ready)


def _number(value: Value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"space: {value!r} is not a number, and is compared or multiplied")
    return float(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _short(number: float) -> float:
    """Round to what a person can read."""
    return float(f"{number:.4g}")

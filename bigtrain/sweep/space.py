"""The search space of a sweep: which keys of the base config vary, and over which values."""

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Literal, Protocol

from pydantic import Field, PositiveInt, model_validator

from bigtrain.core.config import Config, ConfigError

Value = bool | int | float | str | None
Point = dict[str, Value]
"""What one trial changes in the base config: values by dotted keys."""

_DRAWS = 1000
"""How many random points are drawn until one satisfies the constraints."""


class Suggester(Protocol):
    """Suggests values, as `optuna.Trial` does: random ones, those of a grid, or those of an optimizer."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool, steps: int) -> float:
        """Suggest a number in [low, high], one of `steps` on a grid; `log` for a logarithmic scale."""
        ...

    def suggest_categorical(self, name: str, values: Sequence[Value]) -> Value:
        """Suggest one of some values."""
        ...


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

    @abstractmethod
    def suggest(self, key: str, suggester: Suggester, known: Mapping[str, Value]) -> Value:
        """Return a value that the suggester suggests."""

    @abstractmethod
    def perturb(self, value: Value, factor: float, known: Mapping[str, Value]) -> Value:
        """Return a nearby value in the space: `value` times `factor`, or the next choice up (factor > 1) or down."""


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

    def suggest(self, key: str, suggester: Suggester, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        return _short(suggester.suggest_float(key, self.low, self.high, log=self.kind != "uniform", steps=self.steps))

    def perturb(self, value: Value, factor: float, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        return _short(min(max(_number(value) * factor, self.low), self.high))


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

    def suggest(self, key: str, suggester: Suggester, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        factor = suggester.suggest_float(f"{key} / {self.of}", self.low, self.high, log=True, steps=self.steps)
        return _short(factor * _number(known.get(self.of)))

    def perturb(self, value: Value, factor: float, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        other = _number(known.get(self.of))
        return _short(min(max(_number(value) * factor, self.low * other), self.high * other))


class Choice(Parameter):
    """One of some values; numbers should be in ascending order, since `perturb` goes to a neighbour in this order."""

    kind: Literal["choice"]
    values: Annotated[tuple[Value, ...], Field(min_length=1)]

    def suggest(self, key: str, suggester: Suggester, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        return self.values[0] if len(self.values) == 1 else suggester.suggest_categorical(key, self.values)

    def perturb(self, value: Value, factor: float, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        place = self.values.index(value) if value in self.values else 0
        return self.values[min(max(place + (1 if factor > 1 else -1), 0), len(self.values) - 1)]


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

    def suggest(self, key: str, suggester: Suggester, known: Mapping[str, Value]) -> Value:
        """See Parameter."""
        return known.get(self.of)

    def perturb(self, value: Value, factor: float, known: Mapping[str, Value]) -> Value:
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

    Raises:
        ConfigError: parameters depend on each other in a circle, or on a key that does not exist.
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
        """Keys with more than one value of their own, in the order in which they were declared."""

        def follows(one: Parameter) -> bool:
            return isinstance(one, Same) or (isinstance(one, Choice) and len(one.values) == 1)

        return [key for key in self._declared if not follows(self.parameters[key])]

    def base_point(self) -> Point:
        """Return the base config's values of the space's keys."""
        return {key: self.base_values[key] for key in self.parameters if key in self.base_values}

    def suggest(self, suggester: Suggester) -> Point | None:
        """Return a suggested point; None if it does not satisfy the constraints."""
        point: Point = {}
        for key, parameter in self.parameters.items():
            known = {**self.base_values, **point}
            if parameter.applies(known):
                point[key] = parameter.suggest(key, suggester, known)
        return point if self.allows(point) else None

    def allows(self, point: Point) -> bool:
        """Return whether a point satisfies the constraints."""
        known = {**self.base_values, **point}
        return all(constraint.holds(known) for constraint in self._constraints)

    def draw(self, seed: str) -> Point:
        """Return a random point, a function of the seed alone.

        Raises:
            ConfigError: no point that satisfies the constraints was found.
        """
        suggester = RandomSuggester(random.Random(seed))  # noqa: S311 - no secrets
        for _ in range(_DRAWS):
            point = self.suggest(suggester)
            if point is not None:
                return point
        conditions = " and ".join(constraint.text for constraint in self._constraints)
        raise ConfigError(f"constraints: none of {_DRAWS} random points satisfies {conditions}")

    def grid(self) -> Iterator[Point]:
        """Iterate over all points of the grid."""
        suggester = GridSuggester()
        while suggester.more:
            suggester.begin()
            point = self.suggest(suggester)
            if point is not None:
                yield point
            suggester.advance()


class RandomSuggester:
    """Suggests random values."""

    def __init__(self, source: random.Random) -> None:
        self._source = source

    def suggest_float(self, name: str, low: float, high: float, *, log: bool, steps: int) -> float:
        """See Suggester."""
        share = self._source.random()
        return float(low * (high / low) ** share) if log else low + (high - low) * share

    def suggest_categorical(self, name: str, values: Sequence[Value]) -> Value:
        """See Suggester."""
        return self._source.choice(values)


class GridSuggester:
    """Suggests all combinations of a grid in turn; later parameters may depend on the values of earlier ones."""

    def __init__(self) -> None:
        self._digits: list[int] = []
        self._bases: list[int] = []
        self.more = True

    def begin(self) -> None:
        """Start the next point."""
        self._bases = []

    def advance(self) -> None:
        """Go on to the next combination; the last parameter varies fastest."""
        digits = self._digits[: len(self._bases)]
        while digits and digits[-1] + 1 == self._bases[len(digits) - 1]:
            digits.pop()
        self.more = bool(digits)
        self._digits = [*digits[:-1], digits[-1] + 1] if digits else []

    def suggest_float(self, name: str, low: float, high: float, *, log: bool, steps: int) -> float:
        """See Suggester."""
        share = self._digit(steps) / max(steps - 1, 1)
        return float(low * (high / low) ** share) if log else low + (high - low) * share

    def suggest_categorical(self, name: str, values: Sequence[Value]) -> Value:
        """See Suggester."""
        return values[self._digit(len(values))]

    def _digit(self, base: int) -> int:
        place = len(self._bases)
        self._bases.append(base)
        if place == len(self._digits):
            self._digits.append(0)
        return self._digits[place]


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

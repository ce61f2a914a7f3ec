"""What a searcher would have suggested to come to a point that is known already."""

from collections.abc import Mapping, Sequence

from bigtrain.sweep.space import Value


def number_near(known: Mapping[str, Value], name: str, low: float, high: float) -> float:
    """Return a known number, moved into [low, high]: the base config may lie outside, and points are rounded.

    Args:
        known: values by key.
        name: a key, or `key / other` for a ratio.
        low: bound of what is searched.
        high: the other bound.
    """
    key, _, other = name.partition(" / ")
    value = float(known[key])  # type: ignore[arg-type]
    value = value / float(known[other]) if other else value  # type: ignore[arg-type]
    return min(max(value, low), high)


def choice_near(known: Mapping[str, Value], name: str, values: Sequence[Value]) -> Value:
    """Return a known value, or the nearest of those that there are to choose from."""
    value = known[name]
    return value if value in values else min(values, key=lambda one: _apart(one, value))


def _apart(one: Value, other: Value) -> float:
    return abs(float(one) - float(other)) if isinstance(one, int | float) and isinstance(other, int | float) else 1.0

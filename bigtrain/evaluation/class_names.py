"""Match the classes of two sets, or of a set and a generator, by their names."""

from collections.abc import Sequence

from bigtrain.evaluation.errors import EvaluationError

_NAMED = 3


class OtherClassesError(EvaluationError):
    """Two sets have other classes."""


def match_classes(names: Sequence[str], others: Sequence[str], who: str, other: str) -> list[int] | None:
    """Return the index in `others` of each of `names`; None where one side has no names, and indices must do.

    Names that are the numbers of the classes, in their order, tell no more than the indices.

    Args:
        names: of one side's classes.
        others: of the other side's.
        who: has the first, for messages.
        other: has the second.

    Raises:
        OtherClassesError: the names are not the same ones, or one of them stands for two classes.
    """
    if not names or not others:
        return None
    if set(names) != set(others):
        if len(names) == len(others) and not (_are_informative(names) and _are_informative(others)):
            return None
        one, two = _only(names, others), _only(others, names)
        raise OtherClassesError(f"{who} and {other} have different classes: {one} in one, {two} in the other")
    for side, place in ((names, who), (others, other)):
        if len(set(side)) != len(side):
            twice = next(name for name in side if list(side).count(name) > 1)
            raise OtherClassesError(f"{place} has several classes called {twice}; rename one")
    place_of = {name: index for index, name in enumerate(others)}
    return [place_of[name] for name in names]


def _are_informative(names: Sequence[str]) -> bool:
    return list(names) != [str(number) for number in range(len(names))]


def _only(names: Sequence[str], others: Sequence[str]) -> str:
    found = [name for name in names if name not in set(others)]
    return ", ".join(found[:_NAMED]) + (", …" if len(found) > _NAMED else "") if found else "none"

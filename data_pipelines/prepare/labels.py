"""From the labels that others write to class indices and names."""

import codecs
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from data_pipelines.errors import DataError
from data_pipelines.prepare.names import in_natural_order, printable

_INDEX = re.compile(r"-?(0|[1-9][0-9]*)")
_WHOLE = re.compile(r"(-?[0-9]+)\.0*")
_REAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_NONE = ("nan", "<na>", "#n/a", "n/a")
"""What programs write into a table where a value is missing, in lower case; a class of that name must be renamed."""

_MANY = 10
"""So many numbers of which more than half differ are measurements, no classes."""
_SPARSE = 1000
"""Indices of which fewer than one in a hundred is used, and that go beyond this, are numbers of something else."""


def as_classes(
    values: Sequence[Any] | None, where: str, sample: Callable[[int], str] = "sample {}".format
) -> tuple[list[int], tuple[str, ...]]:
    """Turn labels into class indices and names.

    Numbers from 0 on are indices; so are texts that are such numbers. All others are names, sorted: texts, texts of
    digits with zeros in front, and numbers among texts.

    Args:
        values: numbers or texts, one a sample; None: there are none.
        where: they are, for messages.
        sample: says which sample a label is of, by its number.

    Returns:
        The index of each sample and the names; both empty if there are no labels at all.

    Raises:
        DataError: some labels are missing, or are neither numbers nor texts.
    """
    if values is None:
        return [], ()
    plain = [
        value if type(value) is int else _plain(value, where, sample(number)) for number, value in enumerate(values)
    ]
    if all(value is None for value in plain):
        return [], ()
    if None in plain:
        lacking, count = plain.index(None), plain.count(None)
        raise DataError(
            f"{where}: {count} of {len(plain)} samples have no label, the first is {sample(lacking)}; label all "
            "of them, or use --label none to prepare all without classes"
        )
    known: list[int | str] = [value for value in plain if value is not None]
    if all(isinstance(value, int) or _WHOLE.fullmatch(value) for value in known):
        known = [int(value) if isinstance(value, int) else int(value.partition(".")[0]) for value in known]
    _refuse_measurements(known, where, sample)
    if all(isinstance(value, int) for value in known):
        return _from_numbers([int(value) for value in known], where, sample)
    texts = [str(value) for value in known]
    classes = in_natural_order(texts)
    index = {name: number for number, name in enumerate(classes)}
    return [index[text] for text in texts], classes


def _refuse_measurements(values: Sequence[int | str], where: str, sample: Callable[[int], str]) -> None:
    """Refuse labels that are all numbers, not all whole, and mostly different: each would become a class."""
    many = len(values) >= _MANY and 2 * len(set(values)) > len(values)
    if many and all(isinstance(value, int) or _REAL.fullmatch(value) for value in values):
        broken = next((n for n, one in enumerate(values) if isinstance(one, str) and not float(one).is_integer()), None)
        if broken is not None:
            _plain(float(values[broken]), where, sample(broken))


def distinct_names(names: Sequence[str], keys: Sequence[str]) -> tuple[str, ...]:
    """Return the names of classes, those that several have with their keys behind them: `crane (n02012849)`."""
    counts = Counter(names)
    return tuple(f"{name} ({key})" if counts[name] > 1 else name for name, key in zip(names, keys, strict=True))


def _from_numbers(values: list[int], where: str, sample: Callable[[int], str]) -> tuple[list[int], tuple[str, ...]]:
    least, most = min(values), max(values)
    if least == most == -1:  # what many write where a sample has no class
        return [], ()
    if least < 0:
        raise DataError(
            f"{where}: labels must all be class indices from 0 on, or all be names; one is {least}, of "
            f"{sample(values.index(least))}; use names, or remove what has no class"
        )
    distinct = sorted(set(values))
    if most > _SPARSE and most > 100 * len(distinct):
        index = {value: number for number, value in enumerate(distinct)}
        return [index[value] for value in values], tuple(map(str, distinct))
    return values, tuple(map(str, range(most + 1)))


def _decoded(value: bytes) -> str:
    """Return a label's text: UTF-16 where its mark says so, else UTF-8, with escapes for what is none."""
    if value.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return value.decode("utf-16", "backslashreplace")
    return value.decode("utf-8", "surrogateescape")


def _plain(value: Any, where: str, sample: str) -> int | str | None:
    """Return a label as an index, a name, or None where there is none."""
    if isinstance(value, bytes):
        value = _decoded(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = printable(value.strip().removeprefix("\ufeff").strip())
        if text.lower() in _NONE:
            return None
        return int(text) if _INDEX.fullmatch(text) else text or None
    if isinstance(value, float) and (math.isnan(value) or value.is_integer()):
        return None if math.isnan(value) else int(value)
    if value is None or isinstance(value, int):
        return value
    kind = {list: "a list", tuple: "a list", dict: "a mapping", float: "no whole number"}.get(type(value))
    raise DataError(
        f"{where}: the label of {sample} is {kind or type(value).__name__}, {str(value)[:60]}; a sample has one "
        "class, an index or a name; --label none prepares all without classes"
    )

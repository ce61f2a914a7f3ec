"""Strings of a config that name something registered."""

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from bigtrain.core.config import nearest


class NameOf:
    """A string that is one of some names, which are looked up when a value is validated.

    Args:
        what: the names are of, for error messages.
        names: that there are.
        prefix: strings that begin so are right as well.
    """

    def __init__(self, what: str, names: Callable[[], Iterable[str]], *, prefix: str | None = None) -> None:
        self._what, self._names, self._prefix = what, names, prefix

    def check(self, name: str) -> str:
        """Return a name that there is.

        Raises:
            ValueError: there is none; the message names the nearest, or all.
        """
        names = tuple(self._names())
        if name in names or (self._prefix and name.startswith(self._prefix)):
            return name
        raise ValueError(f"unknown {self._what} '{name}'" + nearest(name, names))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic check a string first, then the name."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """List the names."""
        names: JsonSchemaValue = {"type": "string", "enum": list(self._names())}
        return {"anyOf": [names, {"type": "string", "pattern": f"^{self._prefix}"}]} if self._prefix else names

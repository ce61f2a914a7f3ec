"""Types of config keys whose choices are what is registered: ours, and what other packages bring.

Each is an annotation, as in `generator: Annotated[BaseGeneratorConfig, GENERATORS]`: type checkers see the base class,
pydantic sees every class that is registered by the time a config is validated.
"""

import json
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Annotated, Any, TypeVar, Union, cast, get_args

from pydantic import BaseModel, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from data_pipelines.plugins import PluginError, Registry

ModelT = TypeVar("ModelT", bound=BaseModel)


class LazyType(ABC):
    """A type that is known when the first value is validated, not when the config's class is made."""

    @abstractmethod
    def base(self) -> type[BaseModel]:
        """Return the class that all values have in common."""

    @abstractmethod
    def models(self) -> list[type[BaseModel]]:
        """Return the classes that a value may have."""

    def convert(self, value: Any) -> Any:
        """Return a value of the base class as it is used."""
        return value

    @property
    @abstractmethod
    def adapter(self) -> TypeAdapter[Any]:
        """What validates values."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic call `_validate`."""
        return core_schema.with_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe the type once, and refer to it from where it contains itself."""
        reference = f"{self.base().__module__}.{self.base().__qualname__}:{id(self)}"
        if self._described:
            return handler(core_schema.definition_reference_schema(reference))
        self._described = True
        try:
            return handler(_with_reference(self.adapter.core_schema, reference))
        finally:
            self._described = False

    _described = False

    def _validate(self, value: Any, info: core_schema.ValidationInfo) -> Any:
        if isinstance(value, self.base()):
            return self.convert(value)
        if info.mode == "json":  # a strict schema takes a list for a tuple from JSON alone
            return self.adapter.validate_json(json.dumps(value))
        return self.adapter.validate_python(value)


class ConfigUnion(Registry[type[ModelT]], LazyType):
    """A union of config classes, told apart by a key: `kind`.

    Args:
        group: of the entry points by which other packages add classes.
        base: all are subclasses of it.
        key: that tells them apart; each class declares it as `Literal["its name"]`.
    """

    def __init__(self, group: str, base: type[BaseModel], *, key: str = "kind") -> None:
        super().__init__(group, f"a subclass of {base.__name__} with `{key}: Literal[...]`", self._named)
        self._base, self._key = base, key

    def add_classes(self, *classes: type[ModelT]) -> None:
        """Add classes of ours, before the first look."""
        self.add(*(named for one in classes if (named := self._named("", one)) is not None))

    def base(self) -> type[BaseModel]:
        """See LazyType."""
        return self._base

    def models(self) -> list[type[BaseModel]]:
        """See LazyType."""
        return list(self.values())

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """See LazyType."""
        classes = tuple(self.values())
        union: Any = Union[classes]  # noqa: UP007 - of classes that are known at run time
        return TypeAdapter(Annotated[union, Field(discriminator=self._key)] if len(classes) > 1 else union)

    def _named(self, name: str, found: Any) -> tuple[str, type[ModelT]] | None:
        if not (isinstance(found, type) and issubclass(found, self._base)):
            return None
        field = found.model_fields.get(self._key)
        values = get_args(field.annotation) if field else ()
        return (str(values[0]), cast("type[ModelT]", found)) if values else None


class WithMoreKeys(LazyType):
    """A config class of optional keys, to which other packages add theirs: `terms: {r1: …, theirs: …}`.

    Args:
        model: the class with our keys.
        more: classes of the other keys' values, by key.
    """

    def __init__(self, model: type[BaseModel], more: Registry[Any]) -> None:
        self._model, self._more = model, more

    def base(self) -> type[BaseModel]:
        """See LazyType."""
        return self._model

    def models(self) -> list[type[BaseModel]]:
        """See LazyType."""
        return [self._full]

    def convert(self, value: Any) -> Any:
        """See LazyType: a value of the class with our keys alone is one of the class with all keys."""
        if isinstance(value, self._full):
            return value
        return self._full.model_construct(_fields_set=value.model_fields_set, **dict(value))

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """See LazyType."""
        return TypeAdapter(self._full)

    @cached_property
    def _full(self) -> type[BaseModel]:
        more = self._more.foreign()
        taken = [name for name in more if name in self._model.model_fields]
        if taken:
            raise PluginError(f"'{taken[0]}' of {self._more.group} is taken by bigtrain; rename or uninstall it")
        if not more:
            return self._model
        keys: dict[str, Any] = {name: (value | None, None) for name, value in more.items()}
        name, module = self._model.__name__, self._model.__module__
        return create_model(name, __base__=self._model, __module__=module, __doc__=self._model.__doc__, **keys)


def _with_reference(schema: CoreSchema, reference: str) -> CoreSchema:
    """Return a schema that can be referred to; pydantic notes the reference only inside of definitions."""
    outer: Any = schema if schema["type"] == "definitions" else core_schema.definitions_schema(schema, [])
    inner = outer["schema"]
    named: Any = inner if inner["type"] == "definition-ref" else {**inner, "ref": reference}
    return core_schema.definitions_schema(named, outer["definitions"])

"""Typed, strict configs: load a YAML file, override dotted keys, validate, and explain a mistake in one line.

Every part of bigtrain declares its own `Config` beside the code that it configures. This module knows no part.
"""

import difflib
import io
import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Tag, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from bigtrain.core.errors import ConfigError as ConfigError
from bigtrain.core.registry import LazyType
from data_pipelines.files import read_at_most

ConfigT = TypeVar("ConfigT", bound="Config")

_LARGEST, _DEEPEST = 4_000_000, 100
"""Letters and values that a config may have, and how deeply they may be nested."""


class Config(BaseModel):
    """Base of all configs: frozen, no unknown keys, no silent conversions (`"3"` is not 3)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


def load_config(schema: type[ConfigT], path: str | Path, overrides: Sequence[str] = ()) -> ConfigT:
    """Read the YAML file `path`, apply dotted overrides and validate.

    Args:
        schema: the config class that the file must fit.
        path: a YAML 1.2 file.
        overrides: strings `dotted.key=value`; the value is read as YAML, so `null`, `true`, `[1, 2]` work.

    Raises:
        ConfigError: no such file, not YAML, unknown key, wrong type, a value out of its range.
    """
    return parse_config(schema, apply_overrides(read_yaml(path), overrides), source=str(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping; duplicate keys are an error, and nothing in the file can construct an object."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            text = read_at_most(file, _LARGEST).decode()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{_nearby_file(path)}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    data = _parse_yaml(text, str(path))
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values, found {type(data).__name__}")
    return data


def apply_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of `data` with each `dotted.key=value` set; later overrides win."""
    result: dict[str, Any] = _copy(data)
    for override in overrides:
        key, separator, text = override.partition("=")
        parts = key.strip().split(".")
        if not separator or not all(parts):
            raise ConfigError(f"override {override!r}: write it as dotted.key=value, for example ema.half_life_kimg=20")
        node = result
        for depth, part in enumerate(parts[:-1], 1):
            child = node.get(part)
            if child is None:
                child = node[part] = {}
            elif not isinstance(child, dict):
                raise ConfigError(f"override {override!r}: '{'.'.join(parts[:depth])}' is a value, it has no keys")
            node = child
        node[parts[-1]] = _parse_yaml(text, f"override {override!r}")
    return result


def parse_config(schema: type[ConfigT], data: Mapping[str, Any], *, source: str) -> ConfigT:
    """Validate `data` against `schema`; `source` names it in errors."""
    try:
        # Through JSON, where a strict schema takes a list for a tuple, as YAML has no other.
        return schema.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        lines = [_explain(schema, data, detail) for detail in error.errors(include_url=False)]
        more = f" (and {len(lines) - 1} more: {'; '.join(lines[1:])})" if len(lines) > 1 else ""
        raise ConfigError(f"{source}: {lines[0]}{more}") from None


def config_from_words(schema: type[ConfigT], words: Sequence[str], *, source: str) -> ConfigT:
    """Return a config from words `dotted.key=value`, such as a program's arguments; `source` names it in errors.

    Raises:
        ConfigError: see `load_config`.
    """
    return parse_config(schema, apply_overrides({}, words), source=source)


def config_to_words(config: Config) -> list[str]:
    """Return words `key=value`, one for each key that was set, from which `config_from_words` makes an equal config.

    Values are written as JSON, which is YAML too.
    """
    values = config.model_dump(mode="json", exclude_unset=True)
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]


def dump_yaml(config: BaseModel) -> str:
    """Write a config as YAML that `load_config` reads back to an equal config."""
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(config.model_dump(mode="json"), stream)
    return stream.getvalue()


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted keys: `{"ema": {"x": 1}}` becomes `{"ema.x": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nearest(word: str, choices: Sequence[str]) -> str:
    """Return ` (did you mean 'x'?)` for the closest of `choices`, or a list of them all, or nothing."""
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if close:
        return f" (did you mean '{close[0]}'?)"
    return f" (choose from: {', '.join(sorted(choices))})" if choices else ""


def _explain(schema: type[BaseModel], data: Mapping[str, Any], detail: ErrorDetails) -> str:
    keys, owner = _locate(schema, data, detail["loc"])
    dotted = ".".join(keys)
    match detail["type"]:
        case "extra_forbidden":
            siblings = sorted(owner.model_fields) if owner else []
            prefix = ".".join(keys[:-1])
            return f"unknown key '{dotted}'" + nearest(dotted, [f"{prefix}.{name}".lstrip(".") for name in siblings])
        case "missing":
            return f"missing key '{dotted}'"
        case "union_tag_invalid":
            context = detail["ctx"]
            choices = [tag.strip().strip("'") for tag in context["expected_tags"].split(",")]
            tag_key = context["discriminator"].strip("'()")  # a key, or a function of this name
            return f"unknown {'.'.join([*keys, tag_key])} '{context['tag']}'" + nearest(context["tag"], choices)
        case "union_tag_not_found":
            return f"missing key '{'.'.join([*keys, detail['ctx']['discriminator'].strip(chr(39))])}'"
        case "value_error":
            message = str(detail["ctx"]["error"])
            # The location may end with a union's tag: one more part, and the tag is not the last.
            dotted = ".".join(_locate(schema, data, (*detail["loc"], ""))[0]).rstrip(".")
            return f"'{dotted}': {message}" if dotted else message
        case _:
            message = detail["msg"][:1].lower() + detail["msg"][1:]
            return f"'{dotted}': {message}, got {detail['input']!r}"


def _locate(schema: type[BaseModel], data: Any, loc: tuple[int | str, ...]) -> tuple[list[str], type[BaseModel] | None]:
    """Turn pydantic's location into dotted keys (it inserts the tags of unions) and the class that owns the last."""
    keys: list[str] = []
    owners: list[_Admitted] = [_Admitted(schema)]
    node = data
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        if not isinstance(node, Mapping | list) or part == "[key]":
            break  # a mapping's short form, for example a number; or the key itself is wrong
        if isinstance(node, Mapping) and part not in node:
            chosen = [owner for owner in owners if owner.tag == part]
            tagged = [owner for owner in owners if owner.has_kind(str(part))]
            if chosen or (not last and (tagged or part in node.values())):
                owners = chosen or tagged or owners
                continue
        keys.append(str(part))
        if last:
            break
        owners = [inner for owner in owners for inner in owner.inside(str(part))] or owners
        if isinstance(node, Mapping):
            node = node.get(part)
        else:
            node = node[part] if isinstance(node, list) and isinstance(part, int) else None
    models = [owner.model for owner in owners if owner.model is not None]
    return keys, models[0] if models else None


class _Admitted(NamedTuple):
    """A type that a field admits: one of a union's, with pydantic's `Tag` where it has one."""

    annotation: Any
    tag: str | None = None

    @property
    def model(self) -> type[BaseModel] | None:
        """The type, if it is a config's class."""
        is_model = isinstance(self.annotation, type) and issubclass(self.annotation, BaseModel)
        return self.annotation if is_model else None

    def has_kind(self, tag: str) -> bool:
        """Tell whether a union tells this class from others by a field with this value."""
        fields = self.model.model_fields.values() if self.model else ()
        return any(tag in typing.get_args(field.annotation) for field in fields)

    def inside(self, key: str) -> list["_Admitted"]:
        """Return the types that the value at a key admits."""
        if self.model is not None:
            field = self.model.model_fields.get(key)
            return _admitted_lazily(field.metadata) or _admitted(field.annotation) if field else []
        arguments = typing.get_args(self.annotation)
        if issubclass(typing.get_origin(self.annotation) or object, Mapping):
            return _admitted(arguments[1])
        return [one for argument in arguments for one in _admitted(argument)]


def _admitted(annotation: Any, tag: str | None = None) -> list[_Admitted]:
    """Return the types that an annotation admits, which may be a union of unions."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        tags = [one.tag for one in arguments[1:] if isinstance(one, Tag)]
        return _admitted_lazily(arguments[1:]) or _admitted(arguments[0], tags[0] if tags else tag)
    if origin in (typing.Union, types.UnionType):
        return [one for argument in arguments for one in _admitted(argument, tag)]
    return [_Admitted(annotation, tag)]


def _admitted_lazily(annotations: Iterable[Any]) -> list[_Admitted]:
    """Return the types that are known since plug-ins have been loaded."""
    return [_Admitted(model) for one in annotations if isinstance(one, LazyType) for model in one.models()]


def _parse_yaml(text: str, source: str) -> Any:
    try:
        tree = YAML(typ="safe", pure=True).load(text)
        _check_size(tree, source)
        return tree
    except RecursionError:
        raise ConfigError(f"{source}: nested too deeply for a config") from None
    except MarkedYAMLError as error:
        where = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{source}{where}: not valid YAML: {error.problem}") from None
    except YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None


def _check_size(tree: Any, source: str) -> None:
    """Refuse a tree that its aliases (`*name`) make much larger than its text: it would be written out in full."""
    size, waiting = 0, [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        size += len(node) if isinstance(node, str) else 1
        if size > _LARGEST or depth > _DEEPEST:
            raise ConfigError(f"{source}: too large, or nested too deeply, for a config once its aliases are followed")
        if isinstance(node, Mapping):
            waiting += [(key, depth + 1) for key in node] + [(child, depth + 1) for child in node.values()]
        elif isinstance(node, list | tuple | set):
            waiting += [(child, depth + 1) for child in node]


def _nearby_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f" (there is no folder {folder})"
    found = sorted(file.name for file in folder.glob("*.yaml"))
    return nearest(path.name, found) if found else f" (no YAML file in {folder})"


def _copy(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _copy(value) for key, value in tree.items()}
    return list(tree) if isinstance(tree, list) else tree

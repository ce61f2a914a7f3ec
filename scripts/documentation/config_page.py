"""The page of all keys of a training config, from the JSON schema and the docstrings of the config classes."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from bigtrain.config import training_schema
from bigtrain.core.config import Config

INTRODUCTION = """# Config keys

A training config is one YAML file. `task` chooses one of the tables below; a key that is itself a table links to it.
Where a table has a `kind`, that key chooses the table. Keys without a default are required. Unknown keys are errors,
and values are not converted.

`bigtrain config schema` prints the same as a JSON schema, which editors can check files against; `bigtrain config show
CONFIG` prints a config with every default written out. On the command line a key is `optim.G.lr=4e-4`.
"""
ROOTS = ("SynthesisTraining", "TranslationTraining", "UnpairedTraining")
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def config_page() -> str:
    """Return the page as Markdown."""
    definitions: Mapping[str, Any] = training_schema()["$defs"]
    classes = {cls.__name__: cls for cls in _subclasses(Config)}
    names = [*ROOTS, *sorted(definitions.keys() - set(ROOTS))]
    return INTRODUCTION + "".join(
        _section(name, definitions[name], _class_of(name, definitions, classes)) for name in names
    )


def _class_of(name: str, definitions: Mapping[str, Any], classes: Mapping[str, type[Config]]) -> type[Config] | None:
    """Return the class that describes a definition: of a union of one class, that class, by the title."""
    title = definitions[name].get("title", name) if "properties" in definitions[name] else name
    return classes.get(title) or classes.get(name)


def _subclasses(cls: type[Config]) -> Iterator[type[Config]]:
    for child in cls.__subclasses__():
        yield child
        yield from _subclasses(child)


def _section(name: str, definition: Mapping[str, Any], cls: type[Config] | None) -> str:
    said, meanings = _docstrings(cls)
    lines = [f"\n## {name} {{ #{name.lower()} }}\n", said, ""]
    properties: Mapping[str, Any] = definition.get("properties", {})
    if not properties:
        return "\n".join([*lines, _type(definition), ""])
    lines += ["| key | values | default | meaning |", "|---|---|---|---|"]
    required = definition.get("required", [])
    for key, schema in properties.items():
        default = "required" if key in required else _default(schema)
        lines.append(f"| `{key}` | {_type(schema)} | {default} | {meanings.get(key) or _meaning(name, key, schema)} |")
    return "\n".join([*lines, ""])


def _meaning(table: str, key: str, schema: Mapping[str, Any]) -> str:
    """Return the meaning of a key whose class does not describe it.

    Raises:
        ValueError: neither the key nor the table that it holds is described.
    """
    if key == "kind":
        return "chooses this table"
    for choice in (schema, *schema.get("anyOf", ())):
        if "$ref" in choice:
            return f"see [{choice['$ref'].rsplit('/', 1)[1]}](#{choice['$ref'].rsplit('/', 1)[1].lower()})"
    raise ValueError(f"config key '{key}' of {table} has no description in the class's docstring")


def _default(schema: Mapping[str, Any]) -> str:
    value = schema.get("default")
    return "its defaults" if isinstance(value, dict) and value else f"`{json.dumps(value, ensure_ascii=False)}`"


def _type(schema: Mapping[str, Any]) -> str:
    """Describe the values that a schema accepts."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return " or ".join(dict.fromkeys(map(_type, choices)))
    kind = schema.get("type", "any")
    if kind == "array":
        items = schema.get("items") or {}
        return f"list of {_type(items)}" if items else "list"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"mapping to {_type(values)}" if isinstance(values, dict) and values != {"type": "object"} else "mapping"
    limits = [f"{sign} {schema[limit]:.10g}" for limit, sign in LIMITS.items() if limit in schema]
    return " ".join([kind, ", ".join(limits)]).strip()


def _docstrings(cls: type[Config] | None) -> tuple[str, dict[str, str]]:
    """Return a class's own words, and those on each attribute, inherited ones included."""
    if cls is None:
        return "", {}
    meanings: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        _, _, attributes = (base.__doc__ or "").partition("Attributes:\n")
        for name, meaning in re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", attributes, re.MULTILINE):
            meanings[name] = _cell(meaning)
    said = re.split(r"\n\s*(?:Attributes|Raises):\n", cls.__doc__ or "")[0]
    return _escaped("\n".join(line.strip() for line in said.splitlines())), meanings


def _cell(text: str) -> str:
    return _escaped(" ".join(text.split())).replace("|", "\\|")


def _escaped(text: str) -> str:
    """Keep `<` and `*` that are no markup, outside of code."""
    parts = text.split("`")
    return "`".join(part if i % 2 else part.replace("<", "&lt;").replace("*", "\\*") for i, part in enumerate(parts))

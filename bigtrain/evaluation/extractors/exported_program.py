"""Load programs of `torch.export` (`.pt2`) that may come from a stranger: what could run code is refused by name.

PyTorch calls its own loader unsafe. It unpickles entries of the archive, looks functions up by any path below `torch`,
evaluates the sizes' expressions and the guards as Python, and imports modules that the containers' descriptions name.
What is left of the format after these checks are tensors, and a graph of ATen's functions on them.
"""

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

_ENTRIES = re.compile(
    r"data/(?:weights/weight_\d+|constants/tensor_\d+|(?:weights|constants)/model_(?:weights|constants)_config\.json"
    r"|sample_inputs/model\.pt)|models/model\.json|archive_format|archive_version|byteorder|\.format_version|version"
    r"|\.storage_alignment|\.data/(?:version|serialization_id)|extra/.*"
)
_LARGEST_GRAPH = 2**27
"""Bytes of the graph; a ViT-g has 3 MB."""

_MOST_TIMES = 4
"""Of the file's size: PyTorch does not compress its archives."""

_FUNCTIONS = re.compile(
    r"torch\.ops\.(?:aten|prims|torchvision|quantized_decomposed)\.(?!from_file\b|set_data\b)\w+\.\w+"
    r"|torch\.sym_\w+|math\.\w+"
    r"|_operator\.(?:add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|xor|getitem)"
)
"""What a graph may call: ATen's functions, but those that open files, and arithmetic of sizes."""

# fmt: off
_SIZES = frozenset({
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Eq", "Ne", "Lt", "Le", "Gt", "Ge",
    "And", "Or", "Not", "Equality", "Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan",
    "FloorDiv", "ModularIndexing", "Where", "PythonMod", "Mod", "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv",
    "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv", "TruncToFloat", "TruncToInt",
    "RoundToInt", "ToFloat", "Identity",
})
# fmt: on
"""What the expression of a size may call."""

_PLAIN = (ast.Expression, ast.Load, ast.Constant, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.keyword)
_OPERATORS = (ast.operator, ast.unaryop, ast.boolop, ast.cmpop)
_SYMBOL = re.compile(r"[a-z]+\d+")


class UnsafeProgramError(ValueError):
    """An archive is no program of `torch.export`, or holds more than tensors and calls of ATen's functions."""


def load_program(path: Path) -> nn.Module:
    """Return the module of a program's file.

    Raises:
        UnsafeProgramError: see there.
        RuntimeError: PyTorch cannot load it.
    """
    copy = io.BytesIO()
    try:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as checked:
            _check_archive(archive)
            for name in archive.namelist():  # PyTorch's reader of zips may see another archive in a crafted file
                checked.writestr(name, archive.read(name))
    except (zipfile.BadZipFile, KeyError, TypeError, AttributeError, RecursionError, MemoryError, OSError) as error:
        raise UnsafeProgramError(f"not a program of torch.export ({type(error).__name__}: {error})") from None
    copy.seek(0)
    return torch.export.load(copy).module()


def _check_archive(archive: zipfile.ZipFile) -> None:
    entries = {name.partition("/")[2]: name for name in archive.namelist()}
    if len(entries) != len(archive.namelist()) or len({name.partition("/")[0] for name in entries.values()}) != 1:
        raise UnsafeProgramError("several archives in one file, or an entry twice")
    for entry in entries:
        if not _ENTRIES.fullmatch(entry):
            raise UnsafeProgramError(f"its entry {entry} is not part of a plain program, and could run code")
    if (
        sum(member.file_size for member in archive.infolist())
        > _MOST_TIMES * Path(str(archive.filename)).stat().st_size
    ):
        raise UnsafeProgramError("it is compressed, and expands to many times its size")
    for kind in ("weights", "constants"):
        config = json.loads(_content(archive, entries[f"data/{kind}/model_{kind}_config.json"]))
        for name, entry in config["config"].items():
            if entry["use_pickle"] is not False or not re.fullmatch(r"(?:weight|tensor)_\d+", entry["path_name"]):
                raise UnsafeProgramError(f"{name} is pickled, and could run code")
    try:
        torch.load(io.BytesIO(_content(archive, entries["data/sample_inputs/model.pt"])), weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError):
        raise UnsafeProgramError("its sample inputs are more than tensors, and could run code") from None
    text = _content(archive, entries["models/model.json"])
    if b"__enum__" in text or b"\\u005f" in text:
        raise UnsafeProgramError("it names a module to be imported")
    _check_graph(json.loads(text))


def _check_graph(document: Any) -> None:
    for key, value in _leaves(document):
        if key == "target" and not _FUNCTIONS.fullmatch(str(value)):
            raise UnsafeProgramError(f"it calls {value}, which is not one of ATen's functions")
        if key == "as_operator":
            raise UnsafeProgramError(f"it passes the function {value} as an argument")
        if key == "expr_str":
            _check_size(str(value))
        if key == "guards_code":
            _check_guard(str(value))


def _leaves(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Iterate over the values of a document that are no containers, each with the key of the object it is in."""
    waiting = [(key, tree)]
    while waiting:
        key, node = waiting.pop()
        if isinstance(node, dict):
            waiting += node.items()
        elif isinstance(node, list):
            waiting += [(key, child) for child in node]
        else:
            yield key, node


def _check_size(text: str) -> None:
    """See that the expression of a size is arithmetic: it is evaluated as Python."""
    symbols: set[ast.AST] = set()
    for node in ast.walk(_parsed(text)):
        match node:
            case ast.Call(func=ast.Name("Symbol"), args=[ast.Constant(str(name)) as symbol]) if _SYMBOL.fullmatch(name):
                symbols.add(symbol)
            case ast.Call(func=ast.Name(name)) if name in _SIZES:
                pass
            case ast.Name(name) if name in _SIZES or _SYMBOL.fullmatch(name):
                pass
            case ast.Constant(bool() | int() | float()):
                pass
            case _ if node in symbols:
                pass
            case _ if isinstance(node, ast.Constant) or not isinstance(node, (*_PLAIN, *_OPERATORS)):
                raise UnsafeProgramError(f"the size {text!r} is not arithmetic")


def _check_guard(text: str) -> None:
    """See that a guard compares sizes of inputs: it is run as Python."""
    for node in ast.walk(_parsed(text)):
        match node:
            case ast.Name("L") | ast.Attribute(attr="size" | "stride" | "storage_offset", ctx=ast.Load()):
                pass
            case ast.Call(func=ast.Attribute()) | ast.Subscript(ctx=ast.Load()) | ast.List():
                pass
            case _ if not isinstance(node, (*_PLAIN, *_OPERATORS)):
                raise UnsafeProgramError(f"the guard {text!r} is more than a comparison of sizes")


def _parsed(text: str) -> ast.Expression:
    try:
        return ast.parse(text, mode="eval")
    except SyntaxError:
        raise UnsafeProgramError(f"{text!r} is not an expression") from None


def _content(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > _LARGEST_GRAPH:
        raise UnsafeProgramError(f"its entry {name} is larger than {_LARGEST_GRAPH} bytes")
    return archive.read(name)

"""Anybody's `.npy` files are read as NumPy reads them, by many threads at once, and nothing in them is executed."""

import ast
import io

import numpy as np
import pytest

from data_pipelines.fields.npy import MAGIC, read_npy

RNG = np.random.default_rng(0)
ARRAYS = {
    "float32": RNG.random((3, 4, 5)).astype("<f4"),
    "Fortran": np.asfortranarray(RNG.random((3, 4))),
    "big-endian": RNG.integers(0, 9, (2,)).astype(">i4"),
    "one number": np.array(3.5),
    "empty": np.zeros((0, 3), np.uint8),
    "text": np.array(["ab", "c"]),
}


def npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version)
    return stream.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS.keys())
def test_it_is_read_as_numpy_does(array: np.ndarray, version: tuple[int, int]) -> None:
    found = read_npy(npy(array, version))
    assert found.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, array, strict=found.dtype == array.dtype)


def test_a_header_of_python_2() -> None:
    content = npy(np.arange(6.0).reshape(2, 3))
    old = content.replace(b"(2, 3), ", b"(2L, 3L)")
    assert len(old) == len(content) and old != content
    np.testing.assert_array_equal(read_npy(old), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("descr", [b"'float64'", b"'double'"])
def test_other_names_of_a_dtype(descr: bytes) -> None:
    content = npy(np.arange(3.0)).replace(b"'<f8'", descr).replace(b" " * (len(descr) - 5) + b"\n", b"\n")
    np.testing.assert_array_equal(read_npy(content), [0, 1, 2])


def test_pythons_parser_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython 3.11's fails where several threads use it at once (SystemError: AST constructor recursion depth)."""
    content = npy(np.arange(3))
    monkeypatch.setattr(ast, "parse", lambda *args, **kwargs: pytest.fail("it is used"))
    assert read_npy(content).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK", r"not a NumPy file \(\.npy\)"),
        (npy(np.arange(3))[:20], "unreadable NumPy file: its header is"),
        (npy(np.arange(3))[:-1], r"151 bytes, but the header says int64 \(3,\)"),
        (npy(np.zeros(2, [("a", "f4")])), "unreadable NumPy file: its header is .*descr"),
        (npy(np.zeros(1)).replace(b"'<f8'", b"'<f9'"), "unreadable NumPy file: its header has the unknown dtype '<f9'"),
        (npy(np.zeros(1)).replace(b"'<f8'", b"'V8' "), "unreadable NumPy file: it holds V8, not numbers"),
        (MAGIC + b"\2\0" + (10**7).to_bytes(4, "little") + b" " * 10**7, "a header of 10000000 bytes, more than 10000"),
        (
            npy(np.zeros((0, 11))).replace(b"(0, 11), }" + b" " * 20, b"(0, 1" + b"0" * 22 + b"), "),
            "Maximum allowed dimension exceeded",
        ),
        (npy(np.zeros(1)).replace(b"'<f8'", b"'|O' "), "it holds Python objects, which are not unpickled"),
    ],
)
def test_others_are_refused(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_npy(content)

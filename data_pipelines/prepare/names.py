"""What the names in folders and archives mean: which files are images, which belong to the system, which are parts.

A name is relative to its folder or archive, and has the form that all sources share: `/` between folders, composed
Unicode (NFC), no `./` in front. What a file system or an archive calls the file is kept beside it, to read it by.
"""

import posixpath
import re
import unicodedata
from collections.abc import Iterable

from data_pipelines.member_names import IMAGE_SUFFIXES


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KNOWN_OTHERS = _words("""
    .txt .json .jsonl .csv .tsv .xml .md .rst .html .htm .pdf .doc .docx .xlsx .py .ipynb .sh .yaml .yml .toml .ini .cfg
    .log .cls .db .npy .npz .mat .h5 .hdf5 .pt .pth .pkl .pickle .ckpt .bin .safetensors .onnx .parquet .arrow .zip .tar
    .gz .tgz .bz2 .xz .zst .lz4 .7z .rar .wav .flac .ogg .oga .opus .aiff .aif .au .mp3 .mp4 .mkv .avi .webm .mov .svg
    .ply .obj .stl .off .glb .mtl .lock .idx .lmdb .mdb .tfrecord .sha256 .md5 .url .bak .tmp .part
""")
"""Extensions of files that are no images, so that their content need not be looked at."""

_SYSTEM_FOLDERS = _words("""
    __macosx @eadir @tmp @recycle @recently-snapshot #recycle #snapshot $recycle.bin recycler lost+found __pycache__
""") | {"system volume information", "network trash folder", "temporary items"}
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "picasa.ini"})

_PARTS = {
    "train": "train training trainset trn",
    "val": "val valid validation valset dev",
    "test": "test testing testset eval evaluation holdout tst",
}
PART_OF = {word: part for part, words in _PARTS.items() for word in words.split()}
"""Words in names of folders and tars -> the part of a set that they hold."""
_BESIDE_PARTS = _words("set data dataset images image imgs img pictures photos jpg jpeg png")

_PLAIN = re.compile(r"(?!\.\.?(/|$))[^/]+(/(?!\.\.?(/|$))[^/]+)*")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def in_common_form(name: str) -> str:
    r"""Return a file's name, relative to its folder or archive, in the form that all sources share.

    Bytes that are no UTF-8 (of which Python makes surrogates) and control characters become escapes such as `\xe9`,
    so that whatever is made of a name can be printed, stored and sent. A name that leads out of its archive is one in
    it: nothing is ever unpacked.
    """
    name = with_common_letters(name)
    return name if _PLAIN.fullmatch(name) else posixpath.normpath(f"/{name}").lstrip("/")


def with_common_letters(path: str) -> str:
    """Return a path with `/` between folders and composed Unicode, see `in_common_form`."""
    return printable(path.replace("\\", "/"))


def printable(text: str) -> str:
    """Return a text in composed Unicode, with escapes for what cannot be printed, stored or sent."""
    if text.isascii() and text.isprintable():
        return text
    try:
        raw = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a pair of surrogates, as JSON may have it
        raw = text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in unicodedata.normalize("NFC", raw))


def is_system_file(name: str) -> bool:
    """Tell whether a file is hidden, or was put there by a file manager, a file store or an archiver."""
    *folders, file = name.split("/")
    return file.startswith(".") or file.lower() in _SYSTEM_FILES or any(is_system_folder(folder) for folder in folders)


def is_system_folder(name: str) -> bool:
    """Tell whether the last part of a folder's name is one that holds no data of the user."""
    return name.startswith((".", "@__")) or name.lower() in _SYSTEM_FOLDERS


def is_image(name: str) -> bool:
    """Tell by its name whether a file is an image."""
    return suffix_of(name) in IMAGE_SUFFIXES and not is_system_file(name)


def may_be_image(name: str) -> bool:
    """Tell whether only its content can tell if a file is an image: its name has no extension, or no known one."""
    suffix = suffix_of(name)
    return suffix not in IMAGE_SUFFIXES and suffix not in _KNOWN_OTHERS and not is_system_file(name)


def suffix_of(name: str) -> str:
    """Return a file's extension in lower case, with its dot; empty if it has none."""
    file = name.rpartition("/")[2]
    stem, dot, suffix = file.rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def stem_of(name: str) -> str:
    """Return a file's name without its extension."""
    return name[: len(name) - len(suffix_of(name))]


def in_natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return different names sorted; if all are numbers, in the order of these."""
    found = sorted(set(names))
    if all(_NUMBER.fullmatch(name) for name in found):
        return tuple(sorted(found, key=lambda name: (float(name), name)))
    return tuple(found)


def part_named(name: str, others: frozenset[str] = frozenset()) -> str | None:
    """Return the part that a folder's name says it holds (`val2017`, `test_images`): `train`, `val` or `test`.

    Args:
        name: of the folder.
        others: words, in lower case, that may stand beside that of the part, and mean nothing.

    Returns:
        The part; None: the name says none.
    """
    words = words_of(name)
    parts = [PART_OF[word] for word in words if word in PART_OF]
    known = all(word in PART_OF or word in _BESIDE_PARTS or word in others for word in words)
    return parts[0] if len(parts) == 1 and known else None


def words_of(name: str) -> list[str]:
    """Return the words of a folder's name in lower case, without numbers."""
    return [word for part in re.split(r"[-_. ]+", name.lower()) if (word := part.rstrip("0123456789"))]


def part_of_file(name: str) -> str | None:
    """Return the part that a tar or a table holds by its folder or by a word of its name (`train-00000-of-00002`)."""
    *folders, file = name.split("/")
    words = re.split(r"[-_.]", stem_of(file))
    found = [part for word in (*words, *folders) if (part := part_named(word))]
    return found[0] if found else None


def first_of(names: Iterable[str], count: int = 3) -> str:
    """Return the first few names in one text, for messages."""
    some = list(names)
    return ", ".join(some[:count]) + (", …" if len(some) > count else "")

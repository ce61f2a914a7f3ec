"""What the extensions of a sample's members mean: which field they are, and of what kind."""

import re

_SUFFIXES = """
    .png .apng .jpg .jpeg .jpe .jfif .mpo .webp .bmp .dib .gif .tif .tiff .ppm .pgm .pbm .pnm .pfm .avif .avifs .jp2
    .j2k .jpc .jpf .jpx .j2c .tga .icb .vda .vst .pcx .dcx .sgi .rgb .rgba .bw .ras .qoi .ico .icns .cur .dds .xbm .xpm
    .psd .im .msp .pcd .blp .ftc .ftu .gbr .pxr .fli .flc .heic .heif .hif .jxl
"""
IMAGE_SUFFIXES = frozenset(_SUFFIXES.split())
"""Of files that are taken for images: all that Pillow could read, and four that it could not. Those of a format that is
not among `data_pipelines.pictures.FORMATS` are rejected with that reason."""

OTHER_KINDS = {"npy": "array", "wav": "audio", "flac": "audio"}
"""Extension -> kind of field."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def field_of(extension: str) -> str:
    """Return the name of the field that a member of this extension belongs to; empty if to none."""
    kind = kind_of_member(extension)
    return (extension.rpartition(".")[0] or kind) if kind else ""


def is_field_name(name: str) -> bool:
    """Tell whether a member's extension may begin so, to name a field."""
    return name != "class" and _NAME.fullmatch(name) is not None


def kind_of_member(extension: str) -> str:
    """Return the kind of a member by its extension; empty if it is none, or its name could be no field's."""
    name, _, last = extension.rpartition(".")
    if name and not is_field_name(name):
        return ""
    if not last:
        return ""
    if f".{last}" in IMAGE_SUFFIXES:
        return "image"
    return "text" if last == "txt" and not name else OTHER_KINDS.get(last, "")

"""What the first bytes of a file tell about it, whatever its name is."""

HEAD = 64
"""Bytes that are enough to tell."""

_IMAGES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}
_OTHERS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\3\4": "zip",
    b"PK\5\6": "zip",
    b"Rar!\x1a\7": "rar",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"PAR1": "parquet",
    b"\x93NUMPY": "npy",
    b"ARROW1": "arrow",
    b"\x89HDF\r\n\x1a\n": "hdf5",
    b"%PDF": "pdf",
    b"%!PS": "PostScript",
}
_UNREAD_IMAGES = {
    b"8BPS": "Photoshop",
    b"qoif": "QOI",
    b"\0\0\1\0": "ICO",
    b"\0\0\2\0": "CUR",
    b"icns": "ICNS",
    b"DDS ": "DDS",
    b"\x01\xda": "SGI",
    b"\x0a\x05\x01": "PCX",
    b"\xb1\x68\xde\x3a": "DCX",
    b"\x59\xa6\x6a\x95": "Sun raster",
    b"BLP1": "BLP",
    b"BLP2": "BLP",
    b"FTEX": "FTEX",
    b"DanM": "MSP",
    b"LinS": "MSP",
    b"Image type: ": "IM",
    b"#define ": "XBM",
    b"/* XPM": "XPM",
}
"""Pillow could read these; decoders that are hardly ever used are not offered to strangers' files."""
_HEIF = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
LFS_POINTER = b"version https://git-lfs"


def image_format(head: bytes) -> str | None:
    """Return the format of an image that begins with these bytes; None: no image of a format that is read."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF"
    if head[:2] == b"BM" and head[6:10] == bytes(4) and len(head) > 26:
        return "BMP"
    return next((name for magic, name in _IMAGES.items() if head.startswith(magic)), None)


def archive_format(head: bytes) -> str | None:
    """Return the format of an archive, a compressed file or a container of data; None: none that is known.

    A tar is told by its first header, so give 512 bytes where it may be one.
    """
    if head[257:262] == b"ustar":
        return "tar"
    return next((name for magic, name in _OTHERS.items() if head.startswith(magic)), None)


def why_no_image(head: bytes) -> str:
    """Return what a file that is no image is, in a few words for the list of rejected samples."""
    if not head:
        return "an empty file"
    if head.startswith(LFS_POINTER):
        return "a pointer of Git LFS, not the file itself; git lfs pull fetches it"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF:
        return "a HEIC image, which is not supported; convert it to JPEG or PNG"
    if unread := next((name for magic, name in _UNREAD_IMAGES.items() if head.startswith(magic)), None):
        return f"an image of the format {unread}, which is not supported; convert it to JPEG or PNG"
    if head[:2] == b"\xff\x0a" or head[:12] == b"\0\0\0\x0cJXL \r\n\x87\n":
        return "a JPEG XL image, which is not supported; convert it to JPEG or PNG"
    if head.lstrip()[:5].lower() in (b"<html", b"<!doc"):
        return "an HTML page, not an image"
    if head.lstrip()[:4].lower() == b"<svg" or b"<svg" in head.lower():
        return "an SVG drawing, not an image of pixels"
    if not head.strip(b"\0"):
        return "nothing but zero bytes"
    return f"a {found} file, not an image" if (found := archive_format(head)) else "not an image"


def what_came_instead(head: bytes) -> str | None:
    """Return what a download left in a file's place, or wrapped it into, with the way on; None: nothing of the kind."""
    if not head:
        return "is empty: its download may have failed"
    if head.startswith(LFS_POINTER):
        return "is a pointer of Git LFS, not the file itself; git lfs pull fetches it"
    if head.lstrip()[:5].lower() in (b"<html", b"<!doc", b"<?xml"):
        return "is a web page, not the file: its download failed, or needs a login"
    packing = archive_format(head)
    if packing in ("gzip", "bzip2", "xz", "zstd", "lz4", "rar", "7z"):
        return f"is compressed ({packing}); unpack it"
    return None

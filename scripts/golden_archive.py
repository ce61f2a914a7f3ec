"""Pack the golden vectors, the reference implementations' numbers, into an archive that others can check bigtrain with.

python scripts/golden_archive.py ../shared/golden build     # build/bigtrain-golden-VERSION.tar.gz and its .sha256

The same vectors give the same bytes. Whoever has the archive unpacks it and runs the comparisons:

sha256sum --check bigtrain-golden-VERSION.tar.gz.sha256
tar -xf bigtrain-golden-VERSION.tar.gz
BIGTRAIN_GOLDEN=$PWD/bigtrain-golden-VERSION python -m pytest tests/numerics
"""

import gzip
import hashlib
import sys
import tarfile
from pathlib import Path

import bigtrain


def pack(golden: Path, folder: Path) -> Path:
    """Write the archive and its checksum, and return the archive's path.

    Raises:
        SystemExit: there are no golden vectors in the folder.
    """
    if not (golden / "README.md").is_file():
        raise SystemExit(f"golden_archive: {golden}: has no README.md, so it does not hold the golden vectors")
    name = f"bigtrain-golden-{bigtrain.__version__}"
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{name}.tar.gz"
    with (
        archive.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in sorted(path for path in golden.rglob("*") if path.is_file()):
            entry = tar.gettarinfo(path, arcname=f"{name}/{path.relative_to(golden)}")
            entry.mtime = entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mode = 0o644
            with path.open("rb") as content:
                tar.addfile(entry, content)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    (folder / f"{archive.name}.sha256").write_text(f"{digest}  {archive.name}\n")
    return archive


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    sys.stdout.write(f"{pack(Path(sys.argv[1]), Path(sys.argv[2]))}\n")

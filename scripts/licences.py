"""List the licences of everything that bigtrain needs, or write an SBOM (CycloneDX 1.5, JSON).

python scripts/licences.py                        # a table of the packages that training needs
python scripts/licences.py --sbom sbom.json       # the same as an SBOM
python scripts/licences.py --lock requirements-dev.lock

The names and versions are those of the lock file; the licences are what the installed packages declare.
"""

import argparse
import json
import re
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ \\;]+)(?: ; (.*?))? ?\\?$", re.MULTILINE)


class Package(NamedTuple):
    """A pinned package and what it says of its licence."""

    name: str
    version: str
    licence: str


def packages(lock: Path) -> list[Package]:
    """Return the packages of a lock file that are installed here; those of other platforms are left out."""
    found = []
    for name, version, _ in _PIN.findall(lock.read_text(encoding="utf-8")):
        try:
            declared = metadata(name)
        except PackageNotFoundError:
            continue
        if declared["Version"] == version:
            found.append(Package(name, version, _licence(declared)))
    return found


def _licence(declared: Any) -> str:
    expression = declared.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = [text.rsplit(" :: ", 1)[1] for text in declared.get_all("Classifier", []) if "License ::" in text]
    text = (declared.get("License") or "").strip().partition("\n")[0]
    return " and ".join(classifiers) or text[:60] or "not declared"


def sbom(found: list[Package]) -> dict[str, Any]:
    """Return the packages as a CycloneDX document."""
    components = [
        {
            "type": "library",
            "name": package.name,
            "version": package.version,
            "purl": f"pkg:pypi/{package.name}@{package.version}",
            "licenses": [{"license": {"name": package.licence}}],
        }
        for package in found
    ]
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components}


def main() -> None:
    """Print the table, or write the SBOM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements.lock")
    parser.add_argument("--sbom", type=Path, help="the file to write instead of the table")
    options = parser.parse_args()
    found = packages(options.lock)
    if options.sbom:
        options.sbom.write_text(json.dumps(sbom(found), indent=1) + "\n", encoding="utf-8")
        return
    for package in found:
        sys.stdout.write(f"{package.name:40} {package.version:16} {package.licence}\n")


if __name__ == "__main__":
    main()

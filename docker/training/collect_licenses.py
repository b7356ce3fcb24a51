#!/usr/bin/env python3
"""Collect the licence texts of every package installed beside this Python.

usage: collect_licenses.py FOLDER

Makes FOLDER/<name>-<version>/ with the licence, notice and author files of each package, and FOLDER/INDEX.tsv:
name, version, licence as the package declares it, number of texts. Standard library only: it runs in an image build.
"""

from __future__ import annotations

import re
import shutil
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

LICENSE_FILE = re.compile(r"(licen[cs]e|copying|notice|authors|eula)", re.IGNORECASE)


def declared_license(distribution: Distribution) -> str:
    """Read the licence a package declares: SPDX expression, else classifiers, else the first line of the field."""
    metadata = distribution.metadata
    if metadata["License-Expression"]:
        return metadata["License-Expression"]
    classifiers = [c.split(" :: ")[-1] for c in metadata.get_all("Classifier") or [] if c.startswith("License :: ")]
    if classifiers:
        return "; ".join(classifiers)
    return (metadata["License"] or "not declared").strip().splitlines()[0]


def copy_texts(distribution: Distribution, folder: Path) -> int:
    """Copy the licence texts of one package; returns how many there are."""
    count = 0
    for path in distribution.files or []:
        is_text = path.suffix.lower() not in {".py", ".pyc", ".pyi", ".h", ".so"}
        source = Path(str(distribution.locate_file(path)))
        if LICENSE_FILE.search(path.name) and is_text and source.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            # Several texts of one name are told apart by their folder.
            target = folder / "-".join(part for part in path.parts if not part.endswith(".dist-info"))
            shutil.copyfile(source, target)
            count += 1
    return count


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for distribution in distributions():
        name, version = distribution.metadata["Name"], distribution.version
        count = copy_texts(distribution, folder / f"{name}-{version}")
        lines.append(f"{name}\t{version}\t{declared_license(distribution)}\t{count}\n")
    (folder / "INDEX.tsv").write_text("name\tversion\tlicence\ttexts\n" + "".join(sorted(lines)), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Compare the files of a built sdist and wheel with the repository: `python scripts/compare_archives.py DIST`.

DIST is a folder with one `playfield-*.tar.gz` and one `playfield-*.whl`, built from the working tree. The sdist must
hold every file that git tracks, with the same bytes; the wheel, every tracked file under `src/`. Neither may hold
anything else but what setuptools generates. Where HEAD has a tag `v...`, it must name the version. Exits with 1 and a
list of differences otherwise.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
GENERATED = ("PKG-INFO", "setup.cfg", "src/playfield.egg-info/")  # in every sdist of setuptools


def git(*words: str) -> list[str]:
    """The lines that a git command prints, run at the root of the repository."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def read_sdist(path: Path) -> dict[str, bytes]:
    """Contents by path in the repository."""
    files = {}
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            if member.isfile() and (stream := archive.extractfile(member)):
                files[member.name.partition("/")[2]] = stream.read()
    return {name: data for name, data in files.items() if not name.startswith(GENERATED)}


def read_wheel(path: Path) -> dict[str, bytes]:
    """Contents by path in the repository, without the wheel's metadata."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name and not name.endswith("/")]
        return {f"src/{name}": archive.read(name) for name in names}


def differences(archive: Mapping[str, bytes], tracked: Mapping[str, bytes]) -> list[str]:
    """One line for each file that is missing, not tracked, or different."""
    missing = [f"missing: {name}" for name in tracked.keys() - archive.keys()]
    extra = [f"not tracked by git: {name}" for name in archive.keys() - tracked.keys()]
    other = [f"contents differ: {name}" for name in archive.keys() & tracked.keys() if archive[name] != tracked[name]]
    return sorted(missing + extra + other)


def main(dist: Path) -> int:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    tracked = {name: (ROOT / name).read_bytes() for name in git("ls-files") if (ROOT / name).is_file()}
    package = {name: data for name, data in tracked.items() if name.startswith("src/")}
    sdist, wheel = dist / f"playfield-{version}.tar.gz", dist / f"playfield-{version}-py3-none-any.whl"
    problems = [f"{sdist.name}: {line}" for line in differences(read_sdist(sdist), tracked)]
    problems += [f"{wheel.name}: {line}" for line in differences(read_wheel(wheel), package)]
    tags = [tag for tag in git("tag", "--points-at", "HEAD") if tag.startswith("v")]
    problems += [f"tag {tag} does not match version {version}" for tag in tags if tag != f"v{version}"]
    for line in problems:
        print(line, file=sys.stderr)
    if not problems:
        print(f"{sdist.name}: all {len(tracked)} tracked files; {wheel.name}: all {len(package)} of the package")
    return 1 if problems else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))

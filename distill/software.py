"""The software on disk: its code, and the packages that do the work.

Imports none of it, and takes a few hundredths of a second.
"""

import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import curation
import distill
import teachers
from distill import __version__
from distill.provenance import Code

_PACKAGES = ("torch", "numpy", "onnx", "onnxruntime", "timm")
_GIT_SECONDS = 5.0


def versions() -> dict[str, str]:
    """The versions of Python and of the installed packages that do the work."""
    found = {name: _version(name) for name in _PACKAGES}
    installed = {name: number for name, number in found.items() if number is not None}
    return {"python": platform.python_version(), **installed}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def code_on_disk() -> Code:
    """This software's code, as it is on disk now."""
    folders = [Path(package.__path__[0]) for package in (curation, teachers, distill)]
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(_files(folder)):
            content = Path(path).read_bytes()
            name = path.removeprefix(f"{folder.parent}/")
            digest.update(f"{name}\n{len(content)}\n".encode())
            digest.update(content)
    commit, changed = _commit(folders)
    return Code(version=__version__, digest=digest.hexdigest(), commit=commit, changed=changed)


def _files(folder: Path) -> list[str]:
    """Paths as strings, which sort faster."""
    return [
        f"{place}/{name}"
        for place, _, names in os.walk(folder)
        if not place.endswith("__pycache__")
        for name in names
    ]


def _commit(folders: list[Path]) -> tuple[str | None, bool | None]:
    """The commit of the checkout that the code belongs to, and whether it has been changed since.

    A package installed inside another project's checkout does not belong to it.
    """
    names = [folder.name for folder in folders]
    status = _git(folders[0].parent, "status", "--porcelain=v2", "--branch", "--", *names)
    head, *lines = status.splitlines() or [""]
    commit = head.removeprefix("# branch.oid ")
    listed = _git(folders[0].parent, "ls-files", "--", f"{names[0]}/__init__.py")
    if not listed or head == commit or not commit.isalnum():
        return None, None
    return commit, any(not line.startswith("#") for line in lines)


def _git(folder: Path, *arguments: str) -> str:
    """The output of git; empty if it fails."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_GIT_SECONDS,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""

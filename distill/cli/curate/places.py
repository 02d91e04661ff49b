"""Resolves names on the command line to paths, also within the workspace."""

from pathlib import Path
from typing import TYPE_CHECKING

from curation.errors import UserError

if TYPE_CHECKING:
    from curation.workspace import Workspace

FILE_SUFFIXES = (".lmdb", ".partial", ".view", ".rec", ".bin")


def locate(name: str, workspace: "Workspace") -> Path:
    """The path itself if it exists, else the set of that name in the workspace, finished or not."""
    path = Path(name)
    if path.exists() or path.is_absolute() or path.suffix.lower() in FILE_SUFFIXES:
        return path
    name = workspace.full_name(name)
    base = workspace.inside(name, workspace.datasets, "data set")
    for other in (f"{base}.bin", f"{base}.lmdb.partial"):
        if Path(other).exists():
            return Path(other)
    return workspace.image_set(name, or_pairs=True)


def split_list(name: str) -> tuple[Path, str | None] | None:
    """The list and the image set of LIST:IMAGES (None without one); None if it is no list."""
    from distill.evaluation.set_source import LIST_SUFFIXES, split_list

    if Path(name).suffix.lower() in LIST_SUFFIXES and not Path(name).is_dir():
        return Path(name), None
    parts = None if Path(name).exists() else split_list(name)
    return None if parts is None else (Path(parts[0]), parts[1])


def view_path(name: str, workspace: "Workspace") -> Path:
    """The path of a view to make, given as a path or a workspace name."""
    path = Path(name)
    if path.suffix == ".view":
        return path
    if path.suffix in FILE_SUFFIXES or path.is_file():
        raise UserError(
            f"{name} cannot be the name of a view; give a path NAME.view or a workspace name "
            "DATASET/NAME"
        )
    base = workspace.inside(name, workspace.datasets, "view")
    return base.with_name(f"{base.name}.view")


def pairs_path(name: str, workspace: "Workspace") -> Path:
    if Path(name).suffix == ".bin":
        return Path(name)
    base = workspace.inside(name, workspace.datasets, "verification set")
    return base.with_name(f"{base.name}.bin")

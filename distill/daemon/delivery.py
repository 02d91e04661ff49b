"""`distill pull`: a job's bundle, checked, to where it is wanted, whole or not at all."""

import os
import shutil
from pathlib import Path

from curation.errors import UserError
from curation.files import sync_folder
from curation.workspace import Workspace
from distill.daemon.names import check_name
from distill.daemon.service import unknown_job
from distill.export.checksums import SUMS_NAME, verify_sums


def bundle_of(workspace: Workspace, name: str) -> Path:
    """The folder of the job's bundle, links resolved; ``UserError`` where it has none."""
    run = workspace.runs / check_name(name)
    if not run.is_dir():
        raise unknown_job(name, [], workspace)
    bundle = workspace.inside("bundle", run, "the bundle of job")
    if not bundle.is_dir():
        raise UserError(f"job {name!r} has no bundle yet; see how far it is: `distill status`")
    return bundle


def deliver(bundle: Path, destination: Path, force: bool = False) -> bool:
    """Copy the bundle to ``destination``; False where the same is there already.

    What its checksums do not list is left behind. ``UserError`` for a bundle that does not fit its
    checksums, and where something else is at ``destination`` (``force`` replaces another bundle,
    but nothing that is not one).
    """
    destination = destination.resolve()
    names = verify_sums(bundle) | {SUMS_NAME}
    if _same(bundle, destination):
        return False
    _refuse_to_lose(destination, force)
    partial = destination.with_name(f".{destination.name}.partial-{os.getpid()}")
    try:
        _copy(bundle, names, partial)
        verify_sums(partial)
        _put_in_place(partial, destination)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def _same(bundle: Path, destination: Path) -> bool:
    """Whether ``destination`` is this bundle, undamaged."""
    theirs = destination / SUMS_NAME
    if not theirs.is_file() or theirs.read_bytes() != (bundle / SUMS_NAME).read_bytes():
        return False
    try:
        verify_sums(destination)
    except UserError:
        return False
    return True


def _refuse_to_lose(destination: Path, force: bool) -> None:
    if not destination.exists():
        return
    if destination.is_dir() and not any(destination.iterdir()):
        return
    if not (destination / SUMS_NAME).is_file():
        raise UserError(f"{destination} is there and is no bundle; give another destination")
    if not force:
        raise UserError(
            f"{destination} holds another bundle, or a damaged one; "
            "give another destination, or --force to replace it"
        )


def _copy(bundle: Path, names: set[str], partial: Path) -> None:
    for name in sorted(names):
        target = partial / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle / name, target, follow_symlinks=False)
        with target.open("rb") as file:
            os.fsync(file.fileno())
        sync_folder(target.parent)


def _put_in_place(partial: Path, destination: Path) -> None:
    """Rename; an older bundle goes only after the new one is there."""
    replaced = destination.with_name(f".{destination.name}.replaced-{os.getpid()}")
    older = destination.exists() and any(destination.iterdir())
    if older:
        destination.rename(replaced)
    partial.rename(destination)
    sync_folder(destination.parent)
    if older:
        shutil.rmtree(replaced)

"""`distill pull`: copies a job's verified bundle to a destination, completely or not at all."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from curation.errors import UserError
from curation.files import (
    empty,
    open_regular,
    read_whole,
    replace_folder,
    replaced_name,
    sync_folder,
)
from curation.locks import locked
from curation.workspace import Workspace
from distill.daemon.refusals import unknown_job
from distill.export.bundle_files import check_bundle, files_of, may_be_bundle, other_files
from distill.export.checksums import MAXIMUM_SUMS_BYTES, SIGNATURE_NAME, SUMS_NAME
from distill.export.signatures import check_signature, read_signature
from distill.run_directory import BUNDLE
from distill.spec_source import check_name


def bundle_of(workspace: Workspace, name: str) -> Path:
    """The folder of the job's bundle, links resolved; ``UserError`` if it has none."""
    run = workspace.runs / check_name(name)
    if not run.is_dir():
        raise unknown_job(name, [], workspace)
    bundle = workspace.inside(BUNDLE, run, f"job {name!r}: its link")
    if not bundle.is_dir():
        raise UserError(f"job {name!r} has no bundle yet; `distill status` shows its progress")
    return bundle


def deliver(
    bundle: Path,
    destination: Path,
    force: bool = False,
    revise: Callable[[Path], None] | None = None,
    key: Path | None = None,
) -> bool:
    """Copy the bundle to ``destination``; returns False if it is already there.

    Other files in the bundle's folder are not copied. Raises ``UserError`` if the bundle is
    incomplete or does not match its checksums, and if ``destination`` is something else (``force``
    replaces another bundle, but nothing else). Removes the remains of a killed attempt. ``revise``
    changes the copy before it appears, which invalidates a signature. With ``key``, a public key
    file, the bundle must be signed with that key.
    """
    destination = destination.resolve()
    config, _ = check_bundle(bundle)
    if key is not None:
        check_signature(bundle, key)
    with _workbench(destination) as partial:
        if revise is None and _same(bundle, destination):
            return False
        refuse_to_lose(destination, force, in_place=destination == bundle.resolve())
        _copy(bundle, partial, [*files_of(config), SUMS_NAME])
        if revise is not None:
            revise(partial)
        elif signature := read_signature(bundle):
            (partial / SIGNATURE_NAME).write_bytes(signature)
            sync_folder(partial)
        if key is not None:
            check_signature(partial, key)
        replace_folder(partial, destination)
    return True


@contextmanager
def _workbench(destination: Path) -> Iterator[Path]:
    """An empty private folder with the name of ``destination``, removed afterwards.

    It is in a folder next to ``destination``. A model card is titled after its folder.
    """
    partial = destination.with_name(f".{destination.name}.partial")
    replaced = replaced_name(destination)
    partial.mkdir(parents=True, exist_ok=True)
    with locked(partial):
        if not partial.is_dir():
            raise UserError(f"another process wrote {destination} at the same time; pull again")
        try:
            if replaced.is_dir() and not destination.exists():
                replaced.rename(destination)  # a previous attempt was killed between two renames
            shutil.rmtree(replaced, ignore_errors=True)
            empty(partial)
            copy = partial / destination.name
            copy.mkdir()
            yield copy
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _same(bundle: Path, destination: Path) -> bool:
    """Whether ``destination`` is this bundle, undamaged."""
    ours, theirs = bundle / SUMS_NAME, destination / SUMS_NAME
    try:
        if read_whole(theirs, MAXIMUM_SUMS_BYTES) != read_whole(ours, MAXIMUM_SUMS_BYTES):
            return False
        check_bundle(destination)
        if read_signature(destination) != read_signature(bundle):
            return False
    except UserError:
        return False
    return True


def refuse_to_lose(destination: Path, force: bool, in_place: bool = False) -> None:
    """Raise ``UserError`` if a delivery would replace something that must stay."""
    if not destination.exists() or _is_empty_folder(destination):
        return
    if not destination.is_dir() or not may_be_bundle(destination):
        raise UserError(f"{destination} exists and is not a bundle; give another destination")
    if others := other_files(destination):
        elsewhere = "" if in_place else ", or give another destination"
        raise UserError(
            f"{destination} has other files in it, such as {others[0]!r:.80}, which would be lost; "
            f"move them out of the folder{elsewhere}"
        )
    if not force:
        raise UserError(
            f"{destination} holds a different or damaged bundle; give another destination, or "
            f"--force to replace it"
        )


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _copy(bundle: Path, partial: Path, names: list[str]) -> None:
    """Copy all files of a bundle and verify the copies: the bundle may change meanwhile."""
    for name in names:
        target = partial / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_regular(bundle / name) as source, target.open("xb") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
        sync_folder(target.parent)
    try:
        check_bundle(partial)
    except UserError:
        raise UserError(f"{bundle}: it changed while it was copied; pull again") from None

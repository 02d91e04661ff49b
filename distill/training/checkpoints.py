"""Checkpoints as folders that are either complete or absent.

A checkpoint is written under a temporary name, every file is fsynced, a manifest with sizes and
SHA-256 sums is added, and the folder is renamed. A checkpoint that does not match its manifest is
set aside, and the previous one is used. ``scores.json`` holds the scores of an evaluation at that
step, if there was one. The checkpoint with the highest score is kept, and the link ``best`` points
to it.
"""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Self

from pydantic import ConfigDict, Field, FiniteFloat, RootModel, model_validator

from curation.errors import UserError
from curation.files import file_digest, replace_folder, sync_folder
from curation.json_text import as_json, read_record
from distill.fence import check_fence

MANIFEST, SCORES, BEST = "manifest.json", "scores.json", "best"
SCORE = "score"
"""The key of the score that is compared."""
_NAME = re.compile(r"step-[0-9]{8,18}")
Scores = Mapping[str, float]


class _ScoresFile(RootModel[dict[str, FiniteFloat]]):
    model_config = ConfigDict(strict=True)

    @model_validator(mode="after")
    def _check_score(self) -> Self:
        if SCORE not in self.root:
            raise ValueError(f"it has no {SCORE!r}")
        return self


_FileName = Annotated[str, Field(pattern=r"^\w[\w./-]{0,200}$")]


class _Manifest(RootModel[Annotated[dict[_FileName, str], Field(min_length=1, max_length=1_000)]]):
    model_config = ConfigDict(strict=True)


def save_checkpoint(
    root: Path,
    step: int,
    write: Callable[[Path], object],
    keep: int = 2,
    scores: Scores | None = None,
) -> Path:
    """Create ``root/step-NNNNNNNN`` from what ``write(folder)`` puts there, and the ``scores``.

    Keeps the last ``keep`` checkpoints and the best one. Raises ``UserError`` if the disk is full,
    which leaves the others intact, and ``Displaced`` if another attempt of the job has begun.
    """
    check_fence()
    root.mkdir(parents=True, exist_ok=True)
    final = root / f"step-{step:08d}"
    partial = root / f".step-{step:08d}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        write(partial)
        if scores:
            (partial / SCORES).write_text(as_json(dict(scores)))
        _seal(partial)
    except (OSError, RuntimeError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(
            f"checkpoint of step {step} could not be written to {root} ({_first_line(error)}); "
            f"free disk space and run again: it continues from {_name(_newest(root))}"
        ) from error
    check_fence()
    replace_folder(partial, final)
    shutil.rmtree(partial, ignore_errors=True)  # an older checkpoint of this step, if there was one
    best = best_checkpoint(root)
    if best is not None:
        _link(root / BEST, best)
    sync_folder(root)
    for old in checkpoints_in(root)[:-keep]:
        if old != best:
            shutil.rmtree(old)
    return final


def newest_checkpoint(
    root: Path,
    check: Callable[[Path], object] = lambda folder: None,
    say: Callable[[Path, str], object] = lambda folder, reason: None,
) -> Path | None:
    """The newest complete checkpoint that passes ``check``, or None.

    Others are set aside, and ``say`` receives the new path and the reason. ``check`` raises
    ``UserError`` to reject a checkpoint.
    """
    for folder in reversed(checkpoints_in(root)):
        try:
            if not _is_whole(folder):
                raise UserError("it does not fit its manifest")
            check(folder)
        except UserError as error:
            say(_set_aside(folder), str(error))
        else:
            return folder
    return None


def _set_aside(folder: Path) -> Path:
    """Rename it to a free name: the same step may have been damaged before."""
    names = chain([f"damaged-{folder.name}"], (f"damaged-{folder.name}-{i}" for i in count(2)))
    aside = next(each for each in map(folder.with_name, names) if not os.path.lexists(each))
    folder.rename(aside)
    return aside


def best_checkpoint(root: Path) -> Path | None:
    """The checkpoint with the highest score, the earliest in a tie; None if none has a score."""
    scored = [folder for folder in checkpoints_in(root) if scores_of(folder)]
    return max(scored, key=lambda folder: scores_of(folder)[SCORE], default=None)


def final_checkpoint(root: Path, keep: str) -> Path:
    """The checkpoint whose weights a finished training kept: the newest, or the best if asked for.

    Raises ``UserError`` if it no longer exists or is damaged.
    """
    found = best_checkpoint(root) if keep == "best" else _newest(root)
    if found is None or not _is_whole(found):
        raise UserError(
            'a stage with optimiser = "kept" continues from the last checkpoint of the previous '
            f"stage, but {found or root} is missing or damaged; remove {root.parent} and run "
            "again to repeat that stage"
        )
    return found


def scores_of(checkpoint: Path) -> dict[str, float]:
    """The scores that were saved with it; empty if it was not evaluated."""
    try:
        return read_record(checkpoint / SCORES, _ScoresFile).root
    except UserError:
        return {}


def check_whole(checkpoint: Path) -> None:
    """Raise ``UserError`` if it does not match its manifest."""
    if not _is_whole(checkpoint):
        raise UserError(
            f"the checkpoint {checkpoint} is damaged; remove {checkpoint.parent} and run again to "
            f"train from the start"
        )


def step_of(checkpoint: Path) -> int:
    """The number of steps completed when it was written."""
    return int(checkpoint.name.removeprefix("step-"))


def checkpoints_in(root: Path) -> list[Path]:
    """The checkpoints by ascending step, without checking that they are complete."""
    folders = root.iterdir() if root.is_dir() else ()
    return sorted((each for each in folders if _NAME.fullmatch(each.name)), key=step_of)


def steps_saved(root: Path) -> list[int]:
    """The steps of `checkpoints_in`."""
    return [step_of(folder) for folder in checkpoints_in(root)]


def _link(name: Path, folder: Path) -> None:
    """Point the link ``name`` to the folder beside it, replacing its earlier target."""
    fresh = name.with_name(f".{name.name}.link")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(folder.name)
    fresh.replace(name)


def _seal(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = {str(path.relative_to(folder)): _sum_and_sync(path) for path in files}
    manifest = folder / MANIFEST
    manifest.write_text(as_json(sums, indent=2))
    _sum_and_sync(manifest)
    for inner in {path.parent for path in files}:
        sync_folder(inner)


def _is_whole(folder: Path) -> bool:
    try:
        sums = read_record(folder / MANIFEST, _Manifest).root
        return all(file_digest(folder / name) == digest for name, digest in sums.items())
    except (OSError, UserError):
        return False


def _sum_and_sync(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return file_digest(path)


def _newest(root: Path) -> Path | None:
    return next(reversed(checkpoints_in(root)), None)


def _name(folder: Path | None) -> str:
    return "the beginning" if folder is None else folder.name


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

"""The recipe step that copies the source's verification sets."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from curation.errors import UserError
from curation.files import atomic_file
from curation.pairs import VerificationPairs, pair_files_of, read_pairs
from curation.recipes.context import RecipeContext, StepResult
from curation.wording import counted


def copy_pairs(context: RecipeContext) -> Iterator[StepResult]:
    """Copy the readable sets; update copies that a recipe made.

    Other sets in the data set's folder stay, and are reported.
    """
    sources = pair_files_of(context.source)
    for path in sources:
        yield _copy(path, context)
    for path in sorted(context.target.glob("*.bin")):
        if path.name not in {source.name for source in sources}:
            pairs, refusal = _read(path)
            note = f"not in {context.source}; kept, and checked like the others"
            if pairs is None:
                yield StepResult(path, "refused", note=refusal)
            else:
                yield StepResult(path, "pairs", len(pairs.images), None, True, note)


def refuse_other_pairs(context: RecipeContext) -> None:
    """Report unreadable sets before the recipe runs.

    Raises ``UserError`` if a set of the user has the name of one of the source's.
    """
    for path in pair_files_of(context.source):
        pairs, refusal = _read(path)
        target = context.target / path.name
        if pairs is None:
            context.say(f"left out: {refusal}")
        elif target.exists() and not context.ledger.is_ours(target):
            there = _read(target)[0]
            if there is not None and there.digest != pairs.digest:
                raise UserError(
                    f"{target} differs from {path}, and no recipe copied it; rename one of them"
                )


def readable_pairs(folder: Path) -> list[Path]:
    """The readable verification sets in ``folder``."""
    return [path for path in sorted(folder.glob("*.bin")) if _read(path)[0] is not None]


def _copy(path: Path, context: RecipeContext) -> StepResult:
    target = context.target / path.name
    pairs, refusal = _read(path)
    if pairs is None:
        kept = " (the earlier copy is kept, and checked)" if target.exists() else ""
        return StepResult(path, "refused", note=f"{refusal}{kept}")
    there = _read(target)[0] if target.exists() else None
    note = counted(len(pairs), "pair")
    if there is not None and there.digest == pairs.digest:
        return StepResult(target, "pairs", len(pairs.images), reused=True, note=note)
    if target.exists():
        note += "; copied again: " + ("it was damaged" if there is None else "the source's is new")
    context.ledger.enter(target, pairs.digest)
    with path.open("rb") as source, atomic_file(target) as file:
        shutil.copyfileobj(source, file)
    return StepResult(target, "pairs", len(pairs.images), note=note)


def _read(path: Path) -> tuple[VerificationPairs | None, str]:
    """The set, or None and the reason."""
    try:
        return read_pairs(path), ""
    except UserError as error:
        return None, str(error)

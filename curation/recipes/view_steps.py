"""Views that recipes make, and update when their inputs have changed."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from curation.errors import UserError
from curation.files import replace_folder
from curation.image_set import ImageSet, Parameter, ViewStep
from curation.noise.clean import CLEAN
from curation.recipes.context import RecipeContext, StepResult
from curation.recipes.ledger import fingerprint
from curation.view_writing import EmptyViewError
from curation.views import View

Write = Callable[[Path, ImageSet], View]


@dataclass(frozen=True)
class ExpectedStep:
    """The expected last step of a view: its name and its distinguishing parameters."""

    step: str
    parameters: dict[str, Parameter]

    def __str__(self) -> str:
        limits = [f"{k} {v}" for k, v in self.parameters.items() if not isinstance(v, str)]
        return f"{self.step} with {', '.join(limits)}" if limits else self.step

    def is_last_of(self, view: View) -> bool:
        last = view.history[-1]
        return last.name == self.step and self.parameters.items() <= dict(last.parameters).items()


def make_view(
    context: RecipeContext, name: str, parent: ImageSet, expected: ExpectedStep, write: Write
) -> StepResult:
    """The view ``name`` of ``parent``, made by ``write`` or reused.

    A view that a recipe made is replaced if it is outdated; a view that the user made is kept. An
    empty view is not written, and an outdated one is then removed.
    """
    path = context.target / f"{name}.view"
    before, was_there = _open(path), path.exists()
    if was_there:
        reason = _reason(path, before, parent, expected)
        if reason is None:
            assert before is not None
            return StepResult(path, "view", len(before), before.identities, True)
        if not context.ledger.is_ours(path):
            return StepResult(path, "kept", note=f"was not made by a recipe and is kept: {reason}")
    try:
        made = _write(context, path, parent, write)
    except EmptyViewError:
        _remove(path)
        return StepResult(path, "skipped", note=f"{expected} leaves nothing of {parent.path.name}")
    notes = [f"made again: {reason}", *_children(context, path, before)] if was_there else []
    return StepResult(path, "view", len(made), made.identities, note="; ".join(notes))


def refuse_views_of_people(
    context: RecipeContext, name: str, expected: ExpectedStep, of_clean: bool | None
) -> None:
    """Raise ``UserError``, before the recipe runs, if a view of the user is in the way.

    ``of_clean`` tells whether the parent will be a cleaned view; None if it does not matter.
    """
    path = context.target / f"{name}.view"
    if not path.exists() or context.ledger.is_ours(path):
        return
    try:
        view = View(path)
    except UserError as error:
        raise UserError(f"{_in_the_way(path)}: {error}") from None
    is_of_clean = any(step.name == CLEAN for step in view.history[:-1])
    if not expected.is_last_of(view):
        raise UserError(
            f"{_in_the_way(path)}: it was made by {_describe(view.history[-1])}, "
            f"the recipe expects {expected}"
        )
    if of_clean is not None and is_of_clean != of_clean:
        what = "the cleaned images" if of_clean else "all images"
        raise UserError(
            f"{_in_the_way(path)}: the recipe makes it from {what}, and this one was not"
        )


def unreadable_views(context: RecipeContext) -> Iterator[StepResult]:
    """Views of the user in the store's folder that belong to another store."""
    for path in sorted(context.target.glob("*.view")):
        try:
            View(path)
        except UserError as error:
            yield StepResult(path, "kept", note=str(error))


def _in_the_way(path: Path) -> str:
    return (
        f"{path} was not made by a recipe, and recipes change only files that they made; rename "
        f"it, or give the recipe's data set another name (--dataset)"
    )


def _describe(step: ViewStep) -> str:
    return str(ExpectedStep(step.name, dict(step.parameters)))


def _open(path: Path) -> View | None:
    try:
        return View(path)
    except UserError:
        return None


def _reason(path: Path, view: View | None, parent: ImageSet, expected: ExpectedStep) -> str | None:
    """Why the view is not the expected one; None if it is."""
    if view is None:
        return f"it cannot be read, or {parent.store.path.name} has changed since"
    if not expected.is_last_of(view):
        is_clean = expected.step == CLEAN == view.history[-1].name
        return "the decisions have changed" if is_clean else f"it was {_describe(view.history[-1])}"
    if view.history[:-1] != parent.history or view.store.digest != parent.store.digest:
        return f"{parent.path.name} has changed since"
    return None


def _write(context: RecipeContext, path: Path, parent: ImageSet, write: Write) -> View:
    """Write the view to a temporary name; the old one stays until the new one is complete."""
    new = path.with_name(f"{path.name}.new")
    _remove(new)  # left by a recipe that was killed
    try:
        write(new, parent)
        digest = fingerprint(new)
        assert digest is not None
        context.ledger.enter(path, digest)
        replace_folder(new, path)
    finally:
        _remove(new)  # after an exchange, the old view
    return View(path)


def _remove(path: Path) -> None:
    if path.is_symlink():  # a user's link; its target is not ours
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _children(context: RecipeContext, path: Path, before: View | None) -> Iterator[str]:
    """Messages about views of the user that were made from the earlier view."""
    if before is None:
        return
    steps = len(before.history)
    for other in sorted(context.target.glob("*.view")):
        view = None if other == path or context.ledger.is_ours(other) else _open(other)
        if view is not None and view.history[:steps] == before.history:
            yield f"{other.name} was made from the earlier {path.name} and is kept"

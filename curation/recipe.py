"""Recipes: a data set from its source to what jobs train and evaluate on.

A recipe (``recipes/NAME.toml``) is a row of steps over ``workspace/datasets/DATASET/``. Each step
makes its output whole or not at all, and recognises what it has made before; so a recipe that was
interrupted is simply run again. docs/formats.md lists the steps.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curation.convert import convert
from curation.errors import UserError
from curation.files import atomic_file
from curation.ms1m import find_source
from curation.pairs import VerificationPairs, read_pairs
from curation.progress import Progress
from curation.recipe_file import (
    DATASET_NAME,
    Convert,
    CopyPairs,
    Draw,
    LongTailCut,
    Recipe,
    RetinaS,
    Step,
    load_recipe,
)
from curation.store import ImageSet
from curation.subsets import write_long_tail_cut, write_retina_s
from curation.views import View, open_images
from curation.workspace import Workspace

Watch = Callable[[str, str], AbstractContextManager[Progress | None]]
"""Called with a step's title and unit ("bytes" or "images"); gives its progress."""

DRAWN_LAST = "truth.json"
"""The file that ``curation.sample`` writes last."""


@dataclass(frozen=True)
class Made:
    """One thing that a recipe made, or found made before (``reused``)."""

    path: Path
    kind: Literal["source", "store", "view", "pairs", "refused"]
    images: int | None = None
    identities: int | None = None
    reused: bool = False
    note: str = ""


@dataclass(frozen=True)
class _Kitchen:
    """Where a recipe takes from and puts to."""

    source: Path
    target: Path


def run_recipe(
    name: str,
    workspace: Workspace,
    source: Path | None = None,
    dataset: str | None = None,
    watch: Watch | None = None,
) -> list[Made]:
    """Make ``datasets/DATASET`` as the recipe ``name`` says; steps that are done are not repeated.

    ``source`` is the folder with ``train.rec``; else the recipe's environment variable names it
    (only where ``dataset`` is not given: it means the recipe's own data set), else it is
    ``workspace/sources/DATASET``. Raises ``UserError`` where a step cannot be done.
    """
    recipe = load_recipe(name)
    kitchen = _Kitchen(
        _source_folder(name, recipe, workspace, source, dataset),
        workspace.inside(_dataset_name(recipe, dataset), workspace.datasets, "data set"),
    )
    made: list[Made] = []
    for number, step in enumerate(recipe.step, 1):
        title = f"{number}/{len(recipe.step)} {step.do}"
        with (watch or _unwatched)(title, step.unit) as progress:
            made += _run_step(step, kitchen, progress)
    return made


def _unwatched(title: str, unit: str) -> AbstractContextManager[Progress | None]:
    return nullcontext()


def _dataset_name(recipe: Recipe, dataset: str | None) -> str:
    if dataset is not None and not DATASET_NAME.fullmatch(dataset):
        raise UserError(
            f"data set {dataset!r}: a name is small letters, digits and . _ -, at most 64, "
            "and begins with a letter or digit"
        )
    return dataset or recipe.dataset


def _source_folder(
    name: str, recipe: Recipe, workspace: Workspace, given: Path | None, dataset: str | None
) -> Path:
    place = workspace.sources / _dataset_name(recipe, dataset)
    if any(isinstance(step, Draw) for step in recipe.step):
        if given is not None:
            raise UserError(f"the recipe {name} draws its own source; leave --source out")
        return place
    variable = recipe.source_variable
    named = os.environ.get(variable) if variable and dataset is None else None
    folder = given or (Path(named) if named else place)
    if not (folder.is_file() or (folder / "train.rec").exists()):
        raise UserError(
            f"the recipe {name} needs train.rec (with train.idx, property and *.bin where there "
            f"are) and found none in {folder}; say --source DIR{_or_variable(recipe)}, or put the "
            f"files into {place}; the data set is not part of this project, and not ours to give"
        )
    return folder


def _or_variable(recipe: Recipe) -> str:
    return f" or ${recipe.source_variable}" if recipe.source_variable else ""


def _run_step(step: Step, kitchen: _Kitchen, progress: Progress | None) -> Iterator[Made]:
    match step:
        case Draw():
            yield _draw(step, kitchen, progress)
        case Convert():
            yield _convert(step, kitchen, progress)
        case LongTailCut(minimum=minimum):
            yield _view(step, kitchen, write_long_tail_cut, {"minimum": minimum})
        case RetinaS(maximum=maximum):
            yield _view(step, kitchen, write_retina_s, {"maximum": maximum})
        case CopyPairs():
            yield from _copy_pairs(kitchen)


def _draw(step: Draw, kitchen: _Kitchen, progress: Progress | None) -> Made:
    drawn = (kitchen.source / DRAWN_LAST).exists()
    if not drawn:
        from curation.sample import write_sample

        write_sample(kitchen.source, seed=step.seed, progress=progress)
    return Made(kitchen.source, "source", reused=drawn)


def _convert(step: Convert, kitchen: _Kitchen, progress: Progress | None) -> Made:
    path = kitchen.target / f"{step.to}.lmdb"
    converted = path.exists()
    store = convert(kitchen.source, path, progress)
    return Made(path, "store", len(store), store.identities, converted)


def _view(
    step: LongTailCut | RetinaS,
    kitchen: _Kitchen,
    write: Callable[..., View],
    limit: dict[str, int],
) -> Made:
    path = kitchen.target / f"{step.to}.view"
    written = path.exists()
    view = View(path) if written else write(path, _open_parent(kitchen.target / step.of), **limit)
    last = view.history[-1]
    if (last.name, dict(last.parameters)) != (step.do, limit):
        raise UserError(
            f"{path} was made by {last.name} with {dict(last.parameters)}, the recipe says "
            f"{step.do} with {limit}; take it away to make it again"
        )
    return Made(path, "view", len(view), view.identities, written)


def _open_parent(base: Path) -> ImageSet:
    view = base.with_name(f"{base.name}.view")
    return open_images(view if view.exists() else base.with_name(f"{base.name}.lmdb"))


def _copy_pairs(kitchen: _Kitchen) -> Iterator[Made]:
    for path in find_source(kitchen.source).pairs:
        try:
            pairs = read_pairs(path)
        except UserError as error:
            yield Made(path, "refused", note=str(error))
        else:
            yield _copy_file(path, pairs, kitchen.target / path.name)


def _copy_file(path: Path, pairs: VerificationPairs, target: Path) -> Made:
    copied = target.exists()
    if not copied:
        with path.open("rb") as source, atomic_file(target) as file:
            shutil.copyfileobj(source, file)
    elif read_pairs(target).digest != pairs.digest:
        raise UserError(f"{target} is not the {path.name} of {path.parent}; take one of them away")
    return Made(target, "pairs", len(pairs.images), reused=copied, note=f"{len(pairs)} pairs")

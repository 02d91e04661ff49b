"""Recipes: a data set from its source to what jobs train and evaluate on.

A recipe (``recipes/NAME.toml``) is a row of steps over ``workspace/datasets/DATASET/``. Each step
makes its output whole or not at all, and recognises what it has made before; so a recipe that was
interrupted is simply run again. docs/formats.md lists the steps.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.files import atomic_file
from curation.noise.eyes import TeacherChoice
from curation.pairs import VerificationPairs, read_pairs
from curation.progress import Progress, Watch, unwatched
from curation.recipes.file import (
    DATASET_NAME,
    Check,
    Clean,
    Convert,
    CopyPairs,
    Draw,
    LongTailCut,
    Mark,
    Recipe,
    Report,
    RetinaS,
    Step,
    load_recipe,
)
from curation.recipes.kitchen import Kitchen, Made, OpenEyes
from curation.recipes.noise import check_images, clean_images, mark_findings, report_on_images
from curation.records.ms1m import find_source
from curation.subsets import write_long_tail_cut, write_retina_s
from curation.views import View
from curation.workspace import Workspace

DRAWN_LAST = "truth.json"
"""The file that ``curation.sample`` writes last."""


def run_recipe(
    name: str,
    workspace: Workspace,
    source: Path | None = None,
    dataset: str | None = None,
    watch: Watch | None = None,
    open_eyes: OpenEyes | None = None,
    teacher: TeacherChoice | None = None,
) -> list[Made]:
    """Make ``datasets/DATASET`` as the recipe ``name`` says; steps that are done are not repeated.

    ``source`` is the folder with ``train.rec``; else the recipe's environment variable names it
    (only where ``dataset`` is not given: it means the recipe's own data set), else it is
    ``workspace/sources/DATASET``. ``open_eyes`` gives a chosen teacher's eyes; ``teacher`` is taken
    instead of the recipe's. Raises ``UserError`` where a step cannot be done.
    """
    recipe = load_recipe(name)
    kitchen = Kitchen(
        _source_folder(name, recipe, workspace, source, dataset),
        workspace.inside(_dataset_name(recipe, dataset), workspace.datasets, "data set"),
        open_eyes,
        teacher,
    )
    made: list[Made] = []
    for number, step in enumerate(recipe.step, 1):
        title = f"{number}/{len(recipe.step)} {step.do}"
        made += _run_step(step, kitchen, title, watch or unwatched)
    return made


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


def _run_step(step: Step, kitchen: Kitchen, title: str, watch: Watch) -> Iterator[Made]:
    if isinstance(step, Check):  # several bars of its own
        yield check_images(step, kitchen, title, watch)
        return
    with watch(title, step.unit) as progress:
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
            case Clean():
                yield clean_images(step, kitchen)
            case Report():
                yield report_on_images(step, kitchen, progress)
            case Mark():
                yield from mark_findings(step, kitchen)


def _draw(step: Draw, kitchen: Kitchen, progress: Progress | None) -> Made:
    drawn = (kitchen.source / DRAWN_LAST).exists()
    if not drawn:
        from curation.sample import write_sample
        from curation.sample.size import SampleSize

        size = SampleSize(identities=step.identities)
        size = size if step.faults else size.without_faults()
        write_sample(kitchen.source, step.seed, progress, size, os.cpu_count() or 1)
    return Made(kitchen.source, "source", reused=drawn)


def _convert(step: Convert, kitchen: Kitchen, progress: Progress | None) -> Made:
    path = kitchen.target / f"{step.to}.lmdb"
    converted = path.exists()
    store = convert(kitchen.source, path, progress, skip_bad=step.skip_bad, decode=True)
    return Made(path, "store", len(store), store.identities, converted)


def _view(
    step: LongTailCut | RetinaS,
    kitchen: Kitchen,
    write: Callable[..., View],
    limit: dict[str, int],
) -> Made:
    path = kitchen.target / f"{step.to}.view"
    parent = kitchen.parent(step.of)
    written = path.exists()
    view = View(path) if written else write(path, parent, **limit)
    last = view.history[-1]
    if (last.name, dict(last.parameters)) != (step.do, limit):
        raise UserError(
            f"{path} was made by {last.name} with {dict(last.parameters)}, the recipe says "
            f"{step.do} with {limit}; take it away to make it again"
        )
    if view.history[:-1] != parent.history:
        raise UserError(
            f"{path} was made of something else than {parent.path.name} is now; "
            "take it away to make it again"
        )
    return Made(path, "view", len(view), view.identities, written)


def _copy_pairs(kitchen: Kitchen) -> Iterator[Made]:
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

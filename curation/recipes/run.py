"""Runs recipes, which turn a source into the data set that jobs train and evaluate on.

A recipe (``recipes/NAME.toml``) is a list of steps over ``workspace/datasets/DATASET/``. Each step
writes its output atomically and recognises its earlier output, so an interrupted recipe is simply
run again. docs/formats.md lists the steps.
"""

import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.locks import locked
from curation.noise.clean import CLEAN
from curation.noise.decisions import DECISIONS_FILE
from curation.noise.embedded import TeacherChoice
from curation.progress import Progress, Say, StepDisplay, silent, unwatched
from curation.recipes.context import OpenEmbedder, RecipeContext, StepResult
from curation.recipes.file import (
    DATASET_NAME,
    CheckStep,
    CleanStep,
    ConvertStep,
    CopyPairsStep,
    DrawStep,
    LongTailCutStep,
    Recipe,
    ReportStep,
    RetinaSStep,
    ScoreStep,
    Step,
    load_recipe,
)
from curation.recipes.ledger import ASIDE
from curation.recipes.noise_steps import (
    check_images,
    clean_images,
    report_on_images,
    score_against_truth,
)
from curation.recipes.pair_steps import copy_pairs, refuse_other_pairs
from curation.recipes.view_steps import (
    ExpectedStep,
    make_view,
    refuse_views_of_people,
    unreadable_views,
)
from curation.sources.label_choice import USUAL, LabelChoice
from curation.sources.opening import find_format
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
    watch: StepDisplay | None = None,
    open_embedder: OpenEmbedder | None = None,
    teacher: TeacherChoice | None = None,
    *,
    skip_bad: bool = False,
    labels: LabelChoice = USUAL,
    rounds: int | None = None,
    say: Say = silent,
) -> list[StepResult]:
    """Make ``datasets/DATASET`` by the recipe ``name``; completed steps are not repeated.

    ``source`` is the folder with ``train.rec`` or another kind of source. By default it is the
    value of the recipe's environment variable (unless ``dataset`` is given, since the variable is
    for the recipe's own data set), or else ``workspace/sources/DATASET``. ``open_embedder`` opens a
    teacher. ``teacher`` and ``rounds`` override the recipe's. ``skip_bad`` skips bad records.
    ``labels`` takes the source's labels from another place. ``say`` is called with messages for the
    user.

    Raises ``UserError`` if a step cannot be done, if possible before the first step. Only one
    process at a time can make a data set.
    """
    recipe = load_recipe(name)
    context = RecipeContext(
        _source_folder(name, recipe, workspace, source, dataset),
        workspace.inside(_dataset_name(recipe, dataset), workspace.datasets, "data set"),
        None if open_embedder is None else cache(open_embedder),
        teacher,
        skip_bad,
        labels,
        rounds,
        say,
    )
    _check_first(name, recipe, context)
    results: list[StepResult] = []
    with locked(context.target):
        for number, step in enumerate(recipe.step, 1):
            title = f"{number}/{len(recipe.step)} {step.do}"
            results += _run_step(recipe, step, context, title, watch or unwatched)
        listed = {entry.path for entry in results}
        return results + [one for one in unreadable_views(context) if one.path not in listed]


def _check_first(name: str, recipe: Recipe, context: RecipeContext) -> None:
    """Raise errors that would otherwise end the recipe after hours."""
    checks = [step for step in recipe.step if isinstance(step, CheckStep)]
    if context.teacher is not None and not checks:
        raise UserError(f"the recipe {name} has no noise checks; leave --teacher out")
    cleans = [step for step in recipe.step if isinstance(step, CleanStep)]
    if context.rounds is not None and not cleans:
        raise UserError(f"the recipe {name} cleans nothing; leave --rounds out")
    for clean in cleans:
        if context.rounds_of(clean) > 1 and recipe.check_of(clean.of) is None:
            raise UserError(
                f"the recipe {name} does not check {clean.of}, so nothing can be cleaned in rounds"
            )
    converts = any(isinstance(step, ConvertStep) for step in recipe.step)
    if context.skip_bad and not converts:
        raise UserError(f"the recipe {name} converts nothing; leave --skip-bad out")
    draws = any(isinstance(step, DrawStep) for step in recipe.step)
    if context.labels != USUAL and (draws or not converts):
        raise UserError(
            f"the recipe {name} reads no source of yours; leave --label-key and --identity-folder "
            "out"
        )
    _check_writable(context.target)
    damage = context.ledger.set_aside_if_damaged()
    if damage is not None:
        context.say(
            f"{damage}; it is kept as {ASIDE}. Views that recipes made here are now treated as "
            "yours and kept; delete those that should be made again"
        )
    has_teacher = [context.embedder(step) is not None for step in checks]
    if any(isinstance(step, CopyPairsStep) for step in recipe.step) and context.source.exists():
        refuse_other_pairs(context)
    cleaned = {step.to: _will_be_clean(step, any(has_teacher), context) for step in cleans}
    for step in recipe.step:
        if isinstance(step, CleanStep):
            refuse_views_of_people(context, step.to, ExpectedStep(CLEAN, {}), None)
        elif isinstance(step, LongTailCutStep | RetinaSStep):
            first = step.of if isinstance(step.of, str) else step.of[0]
            refuse_views_of_people(context, step.to, _expected(step), cleaned.get(first))


def _will_be_clean(step: CleanStep, is_checked: bool, context: RecipeContext) -> bool:
    return is_checked or (context.target / f"{step.of}.findings" / DECISIONS_FILE).exists()


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.partial"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}; choose another place with --workspace"
        ) from None


def _dataset_name(recipe: Recipe, dataset: str | None) -> str:
    if dataset is not None and not DATASET_NAME.fullmatch(dataset):
        raise UserError(
            f"data set {dataset!r}: allowed: up to 64 of a-z 0-9 . _ -, starting with a letter or "
            "digit"
        )
    return dataset or recipe.dataset


def _source_folder(
    name: str, recipe: Recipe, workspace: Workspace, given: Path | None, dataset: str | None
) -> Path:
    place = workspace.sources / _dataset_name(recipe, dataset)
    if any(isinstance(step, DrawStep) for step in recipe.step):
        if given is not None:
            raise UserError(f"the recipe {name} draws its own source; leave --source out")
        return place
    variable = recipe.source_variable
    named = os.environ.get(variable) if variable and dataset is None else None
    folder = given or (Path(named) if named else place)
    if not folder.is_file() and find_format(folder) is None:
        raise UserError(
            f"the recipe {name} needs a training set (train.rec with train.idx, property and *.bin "
            f"if present, or anything else that `curate convert` takes) and found none in "
            f"{folder}; give --source DIR{_or_variable(recipe)}, or put the files into {place}; "
            f"this project does not distribute the data set"
        )
    return folder


def _or_variable(recipe: Recipe) -> str:
    return f" or ${recipe.source_variable}" if recipe.source_variable else ""


def _run_step(
    recipe: Recipe, step: Step, context: RecipeContext, title: str, watch: StepDisplay
) -> Iterator[StepResult]:
    # These have progress bars of their own.
    if isinstance(step, CheckStep):
        yield check_images(step, context, title, watch)
        return
    if isinstance(step, CleanStep):
        yield from clean_images(step, recipe.check_of(step.of), context, title, watch)
        return
    with watch(title, step.unit) as progress:
        match step:
            case DrawStep():
                yield _draw(step, context, progress)
            case ConvertStep():
                yield _convert(step, context, progress)
            case LongTailCutStep():
                yield _subset(step, context, write_long_tail_cut)
            case RetinaSStep():
                yield _subset(step, context, write_retina_s)
            case CopyPairsStep():
                yield from copy_pairs(context)
            case ReportStep():
                yield report_on_images(step, context, progress)
            case ScoreStep():
                yield from score_against_truth(step, context)


def _draw(step: DrawStep, context: RecipeContext, progress: Progress | None) -> StepResult:
    drawn = (context.source / DRAWN_LAST).exists()
    if not drawn:
        from curation.sample import write_sample
        from curation.sample.size import SampleSize

        size = SampleSize(identities=step.identities)
        size = size if step.faults else size.without_faults()
        write_sample(context.source, step.seed, progress, size, os.cpu_count() or 1)
    return StepResult(context.source, "source", reused=drawn)


def _convert(step: ConvertStep, context: RecipeContext, progress: Progress | None) -> StepResult:
    path = context.target / f"{step.to}.lmdb"
    converted = path.exists()
    notes: list[str] = []
    skip_bad = step.skip_bad or context.skip_bad
    store = convert(
        context.source,
        path,
        progress,
        skip_bad=skip_bad,
        decode=True,
        choice=context.labels,
        warn=notes.append,
    )
    if store.meta.skipped:
        listed = f"{path.name}/quarantine.tsv"
        notes.append(f"bad records left out: {store.meta.skipped:,}, see {listed}")
    return StepResult(path, "store", len(store), store.identities, converted, "; ".join(notes))


def _expected(step: LongTailCutStep | RetinaSStep) -> ExpectedStep:
    limit = "minimum" if isinstance(step, LongTailCutStep) else "maximum"
    return ExpectedStep(step.do, {limit: getattr(step, limit)})


def _subset(
    step: LongTailCutStep | RetinaSStep, context: RecipeContext, write: Callable[..., View]
) -> StepResult:
    expected = _expected(step)
    parent = context.parent(step.of)
    return make_view(context, step.to, parent, expected, partial(write, **expected.parameters))

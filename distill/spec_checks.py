"""Whether a job spec fits the registries and the workspace: names, files, and what goes together.

``distill.spec`` has the spec's form, which needs no torch, and ``distill.spec_text`` reads it.
"""

from pathlib import Path

from curation.errors import UserError
from curation.suggestions import meant
from curation.workspace import EVALUATION, Workspace
from distill.catalogue import defaults_of
from distill.losses.settings import check_shardable
from distill.spec import JobSpec, TeacherSource
from distill.spec_text import parse_spec, read_spec
from distill.training.config import TrainSettings
from teachers.sources import ONNX_SUFFIX, WEIGHT_SUFFIXES, is_onnx, is_weights, unsaid_preprocessing


def load_spec(path: Path, workspace: Workspace) -> JobSpec:
    """Read and check a spec against the registries and the workspace; ``UserError`` otherwise."""
    spec = parse_spec(read_spec(path), str(path))
    check_names(spec, path, workspace)
    return spec


def check_names(spec: JobSpec, path: Path, workspace: Workspace) -> None:
    """Raise ``UserError`` where the registries or the workspace lack what the spec names."""
    try:
        _check_data(spec, workspace)
        _check_networks(spec, workspace)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def evaluation_sets(spec: JobSpec, workspace: Workspace) -> dict[str, Path]:
    """Where each evaluation set lies: a ``.bin`` of pairs, or a store or view for all pairs."""
    return {name: _evaluation_set(name, spec, workspace) for name in spec.data.evaluate}


def pair_sets(spec: JobSpec, workspace: Workspace) -> dict[str, Path]:
    """The evaluation sets that are quick to score: those of pairs."""
    sets = evaluation_sets(spec, workspace)
    return {name: path for name, path in sets.items() if path.suffix == ".bin"}


def selection_sets(spec: JobSpec, workspace: Workspace) -> dict[str, Path]:
    """The sets of pairs by which the candidates of a generation are compared."""
    chosen, pairs = spec.generations.select_on, pair_sets(spec, workspace)
    return {name: pairs[name] for name in chosen} if chosen else pairs


def _evaluation_set(name: str, spec: JobSpec, workspace: Workspace) -> Path:
    full = name if "/" in name else f"{spec.data.train.split('/')[0]}/{name}"
    pairs = workspace.inside(f"{full}.bin", workspace.datasets, EVALUATION)
    return pairs if pairs.is_file() else workspace.image_set(full, EVALUATION)


def teacher_path(teacher: TeacherSource, workspace: Workspace) -> Path:
    """The file or folder in teachers/, or the bundle of the finished job, that ``from`` names."""
    source = teacher.source
    assert source is not None
    path = workspace.inside(source, workspace.teachers, "teacher.from")
    if teacher.preprocessing is not None:
        if path.exists():
            return path
        files = [each.name for each in workspace.teachers.glob("*")]
        is_file = is_onnx(source) or is_weights(source)
        job = "" if is_file else " (a finished job knows its own preprocessing: leave that out)"
        raise UserError(f"teacher.from: no file {path}; put it there{job}{meant(source, files)}")
    bundle = workspace.inside(source, workspace.runs, "teacher.from") / "bundle"
    if bundle.is_dir():
        return bundle
    if path.exists():
        raise UserError(
            f"teacher.from: {source!r} lies in teachers/: {unsaid_preprocessing({}, source, None)}"
        )
    finished = [each.parent.name for each in workspace.runs.glob("*/bundle")]
    raise UserError(
        f"teacher.from: {source!r} is no file ({', '.join((ONNX_SUFFIX, *WEIGHT_SUFFIXES))}) and "
        f"no finished job ({bundle} is missing); run that job first{meant(source, finished)}"
    )


def _check_data(spec: JobSpec, workspace: Workspace) -> None:
    workspace.image_set(spec.data.train, "data.train")
    pairs = pair_sets(spec, workspace)
    _check_evaluation(spec, pairs)
    _check_selection(spec, pairs)
    for teacher in spec.teacher.sources if spec.teacher is not None else []:
        teacher_path(teacher, workspace)


def _check_evaluation(spec: JobSpec, pairs: dict[str, Path]) -> None:
    for key, settings in trainings(spec).items():
        if settings.evaluate_every is not None and not pairs:
            raise UserError(
                f"{key}.evaluate_every is {settings.evaluate_every} but data.evaluate names no "
                'set of pairs (a .bin file); name one, such as evaluate = ["lfw"], or leave '
                "evaluate_every out"
            )


def trainings(spec: JobSpec) -> dict[str, TrainSettings]:
    """The settings of the student's and the teacher's training, by their key."""
    trainings = {"train": spec.train}
    if spec.teacher is not None and spec.teacher.network is not None:
        trainings["teacher.train"] = spec.teacher.train
    return trainings


def _check_selection(spec: JobSpec, pairs: dict[str, Path]) -> None:
    if not spec.generations.scored:
        return
    for name in spec.generations.select_on:
        if name not in pairs:
            raise UserError(
                f"generations.select_on: {name!r} is no set of pairs (a .bin file); "
                f"allowed: {', '.join(pairs) or 'none of data.evaluate'}"
            )
    if not pairs:
        raise UserError(
            "generations: candidates are compared on sets of pairs, but data.evaluate names none "
            '(a .bin file); name one, such as evaluate = ["lfw"], or leave seeds and '
            "stop_without_gain out"
        )


def _check_networks(spec: JobSpec, workspace: Workspace) -> None:

    if spec.teacher is not None and spec.teacher.network is not None:
        assert spec.teacher.stage is not None
        defaults_of(spec.teacher.network.backbone)
        losses = spec.teacher.stage.losses
        if spec.teacher.train.centres.sharded:
            check_shardable(losses, "teacher.stage.losses")
        guided = [name for name in losses if losses[name].needs_teacher]
        if guided:
            raise UserError(f"teacher.stage.losses.{guided[0]}: a teacher has no teacher")
    if spec.student is None:
        return
    defaults_of(spec.student.backbone)
    for index, stage in enumerate(spec.stage):
        losses = stage.losses
        if spec.train.centres.sharded:
            check_shardable(losses, f"stage.{index}.losses")
        guided = [name for name in losses if losses[name].needs_teacher]
        if guided and spec.teacher is None:
            raise UserError(f"stage.{index}.losses.{guided[0]}: needs a [teacher]")

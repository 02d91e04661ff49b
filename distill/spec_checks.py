"""Checks a job spec against the registries and the workspace: names, files, and combinations.

``distill.spec`` defines the spec's form, without torch, and ``distill.spec_text`` reads it.
"""

import json
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from curation.errors import UserError
from curation.suggestions import meant
from curation.toml_positions import Location
from curation.workspace import EVALUATION, Workspace
from distill.catalogue import catalogue, defaults_of
from distill.evaluation.set_source import LIST_SUFFIXES, SetSource, split_list
from distill.export.checksums import SUMS_NAME
from distill.losses.settings_parsing import Losses, check_shardable
from distill.network_spec import NetworkSpec, StudentSpec, TeacherSource
from distill.run_directory import BUNDLE
from distill.spec import JobSpec
from distill.spec_errors import SpecError, within
from distill.timm_names import is_timm
from distill.training.config import TrainSettings
from teachers.setting_words import setting
from teachers.sources import (
    ONNX_SUFFIX,
    WEIGHT_SUFFIXES,
    is_onnx,
    is_weights,
    missing_preprocessing,
)

TEACHER_START = "[teacher] instead of network and stage"
STUDENT_START = "[student] instead of backbone"
_PAIRS = "set of pairs (a .bin file or LIST:SET)"


def check_names(spec: JobSpec, workspace: Workspace, coming: Collection[str] = frozenset()) -> None:
    """Raise ``SpecError`` if the registries or the workspace lack what the spec names.

    Teachers that the jobs in ``coming`` have yet to train may be missing.
    """
    _check_data(spec, workspace, coming)
    _check_networks(spec, workspace)


def evaluation_sets(spec: JobSpec, workspace: Workspace) -> dict[str, SetSource]:
    """The location of each evaluation set."""
    sets = {}
    for name in spec.data.evaluate:
        with within(*evaluation_key(spec, name)):
            sets[name] = _evaluation_set(name, spec, workspace)
    return sets


def evaluation_key(spec: JobSpec, name: str) -> Location:
    """The place in the spec that names an evaluation set."""
    return ("data", "evaluate", spec.data.evaluate.index(name))


def pair_sets(spec: JobSpec, workspace: Workspace) -> dict[str, SetSource]:
    """The evaluation sets that are quick to score: pair sets."""
    sets = evaluation_sets(spec, workspace)
    return {name: each for name, each in sets.items() if each.is_pairs}


def interval_sets(spec: JobSpec, workspace: Workspace) -> dict[str, SetSource]:
    """The sets scored at intervals: those chosen, or the pair sets; pair sets come first."""
    chosen, pairs = spec.evaluate.at_intervals, pair_sets(spec, workspace)
    if not chosen:
        return pairs
    sets = evaluation_sets(spec, workspace)
    found = [name for name in chosen if name in sets]
    return {name: sets[name] for name in sorted(found, key=lambda name: name not in pairs)}


def interval_protocols(spec: JobSpec) -> tuple[str, ...]:
    """The protocols scored at intervals."""
    return tuple(name for name in spec.evaluate.at_intervals if name in spec.evaluate.protocols)


def selection_sets(spec: JobSpec, workspace: Workspace) -> dict[str, SetSource]:
    """The pair sets on which the candidates of a generation are compared."""
    chosen, pairs = spec.generations.select_on, pair_sets(spec, workspace)
    return {name: pairs[name] for name in chosen} if chosen else pairs


def _evaluation_set(name: str, spec: JobSpec, workspace: Workspace) -> SetSource:
    beside = spec.data.sets[0].set.split("/")[0]

    if (listed := split_list(name)) is not None:
        path = workspace.inside(_beside(listed[0], beside), workspace.datasets, "list of pairs")
        full = workspace.full_name(listed[1], beside)
        if not path.is_file():
            raise UserError(f"list of pairs {listed[0]!r} is not in the workspace (no file {path})")
        return SetSource(path, workspace.image_set(full, "set of a list of pairs"))
    if Path(name).suffix.lower() in LIST_SUFFIXES:
        raise UserError(
            f"{name!r} is a list of pairs; add the store or view whose images it names, such as "
            f"{name}:{spec.data.sets[0].set}"
        )
    full = workspace.full_name(name, beside)
    pairs = workspace.inside(f"{full}.bin", workspace.datasets, EVALUATION)
    if pairs.is_file():
        return SetSource(pairs)
    return SetSource(workspace.image_set(full, EVALUATION, or_pairs=True))


def _beside(name: str, folder: str) -> str:
    return name if "/" in name else f"{folder}/{name}"


def teacher_path(teacher: TeacherSource | StudentSpec, workspace: Workspace) -> Path:
    """The file or folder in teachers/, or the finished job's bundle, that ``from`` names."""
    source = teacher.source
    assert source is not None
    path = workspace.inside(source, workspace.teachers, "teacher")
    if teacher.preprocessing is not None:
        if path.exists():
            return path
        files = [each.name for each in workspace.teachers.glob("*")]
        is_file = is_onnx(source) or is_weights(source)
        job = "" if is_file else " (a finished job knows its own preprocessing: leave that out)"
        raise UserError(f"no file {path}; put it there{job}{meant(source, files)}")
    bundle = workspace.inside(source, workspace.runs, "teacher") / BUNDLE
    if bundle.is_dir():
        return bundle
    if (path / SUMS_NAME).is_file():
        return path
    if path.exists():
        raise UserError(f"{source!r} is in teachers/: {missing_preprocessing({}, source, None)}")
    if is_timm(source) or source in {row["name"] for row in catalogue()}:
        raise UserError(
            f"{source!r} is a network without weights; give a file of its weights in teachers/ or "
            f"a finished job, and with a file {setting('backbone', source)}"
        )
    finished = [each.parent.name for each in workspace.runs.glob("[!.]*/bundle")]
    raise UserError(
        f"{source!r} is neither a file ({', '.join((ONNX_SUFFIX, *WEIGHT_SUFFIXES))}) nor a "
        f"finished job ({bundle} is missing); run that job first{meant(source, finished)}"
    )


def coming_teachers(spec: JobSpec, coming: Collection[str]) -> list[str]:
    """The teachers of the spec that jobs in ``coming`` have yet to train."""
    return _coming([] if spec.teacher is None else spec.teacher.sources.values(), coming)


def comes_later(student: StudentSpec | None, coming: Collection[str]) -> bool:
    """Whether a job in ``coming`` has yet to train what the student starts from."""
    return student is not None and bool(_coming([student], coming))


def _coming(sources: Iterable[TeacherSource | StudentSpec], coming: Collection[str]) -> list[str]:
    return [
        each.source
        for each in sources
        if each.preprocessing is None and each.source is not None and each.source in coming
    ]


def _check_data(spec: JobSpec, workspace: Workspace, coming: Collection[str]) -> None:
    for key, each in spec.data.placed.items():
        with within("data", *key):
            workspace.image_set(each.set)
    pairs = pair_sets(spec, workspace)
    _check_evaluation(spec, pairs)
    _check_selection(spec, pairs)
    if spec.student is not None and spec.student.source and not comes_later(spec.student, coming):
        with within("student", "from"):
            teacher_path(spec.student, workspace)
    sources = spec.teacher.sources if spec.teacher is not None else {}
    for key, teacher in sources.items():
        if teacher.source not in coming_teachers(spec, coming):
            with within("teacher", *key, "from"):
                teacher_path(teacher, workspace)
        if teacher.backbone is not None:
            with within("teacher", *key, "backbone"):
                defaults_of(teacher.backbone)


def check_backbone(name: str, workspace: Workspace, start: str) -> None:
    """Raise ``UserError`` if this is not the name of a network.

    If it is that of a trained network, advises ``start``, the place of `from`, instead.
    """
    try:
        defaults_of(name)
    except UserError:
        if what := _trained_network(name, workspace):
            use = f"to use its weights, write from = {json.dumps(name)} in {start}"
            if is_onnx(name):
                use = f"a graph can only be a teacher: from = {json.dumps(name)} in [teacher]"
            raise UserError(f"{name!r} is {what}, not the name of a network; {use}") from None
        raise


def _trained_network(name: str, workspace: Workspace) -> str | None:
    """What this name is in the workspace; None if it is no job, and nothing in teachers/."""
    with suppress(UserError):
        if workspace.inside(name, workspace.runs, "job").parent == workspace.runs:
            run = workspace.runs / name
            if (run / BUNDLE).is_dir():
                return "a finished job"
            if run.is_dir():
                return "a job that has no bundle yet"
        if workspace.inside(name, workspace.teachers, "teacher").parent == workspace.teachers:
            return "in teachers/" if (workspace.teachers / name).exists() else None
    return None


def _check_evaluation(spec: JobSpec, pairs: dict[str, SetSource]) -> None:
    chosen = spec.evaluate.at_intervals
    if chosen and pairs and not any(name in pairs for name in chosen):
        raise SpecError(
            ("evaluate", "at_intervals"),
            f"names no {_PAIRS}, whose accuracy would be the score; allowed: {', '.join(pairs)}",
        )
    for key, settings in trainings(spec).items():
        if settings.evaluate_every is not None and not pairs:
            raise SpecError(
                (*key, "evaluate_every"),
                f"data.evaluate names no {_PAIRS} to score on; add one, such as "
                'evaluate = ["lfw"], or leave evaluate_every out',
            )


def trainings(spec: JobSpec) -> dict[Location, TrainSettings]:
    """The settings of the student's and the teacher's training, by location in the spec."""
    trainings: dict[Location, TrainSettings] = {("train",): spec.train}
    if spec.teacher is not None and spec.teacher.network is not None:
        trainings["teacher", "train"] = spec.teacher.train
    return trainings


def _check_selection(spec: JobSpec, pairs: dict[str, SetSource]) -> None:
    if not spec.generations.scored:
        return
    for index, name in enumerate(spec.generations.select_on):
        if name not in pairs:
            raise SpecError(
                ("generations", "select_on", index),
                f"{name!r} is not a {_PAIRS}; allowed: "
                f"{', '.join(pairs) or 'none of data.evaluate'}",
            )
    if not pairs:
        raise SpecError(
            ("generations",),
            "candidates are compared on sets of pairs, but data.evaluate names none "
            '(a .bin file or LIST:SET); add one, such as evaluate = ["lfw"], '
            "or leave seeds and stop_without_gain out",
        )


def _check_networks(spec: JobSpec, workspace: Workspace) -> None:
    if spec.teacher is not None and spec.teacher.network is not None:
        assert spec.teacher.stage is not None
        with within("teacher", "network"):
            _check_network(spec.teacher.network, workspace, TEACHER_START)
        with within("teacher", "stage", "losses"):
            _check_losses(spec.teacher.stage.losses, spec.teacher.train, "a teacher has no teacher")
    if spec.student is None:
        return
    if spec.student.backbone:
        with within("student"):
            _check_network(spec.student, workspace, STUDENT_START)
    unguided = "needs a [teacher]" if spec.teacher is None else None
    for index, stage in enumerate(spec.stage):
        with within("stage", index, "losses"):
            _check_losses(stage.losses, spec.train, unguided)


def _check_network(network: NetworkSpec, workspace: Workspace, start: str) -> None:
    with within("backbone"):
        check_backbone(network.backbone, workspace, start)
    if is_timm(network.backbone) and network.width != 1:
        raise SpecError(("width",), "timm's networks have fixed widths; leave it out")


def _check_losses(losses: Losses, train: TrainSettings, unguided: str | None) -> None:
    """``unguided`` is the message about losses that need a teacher, if there is none."""
    if train.centres.sharded:
        check_shardable(losses)
    for name, loss in losses.items():
        if unguided is not None and loss.needs_teacher:
            raise SpecError((name,), unguided)

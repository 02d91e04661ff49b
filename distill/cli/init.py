"""The command `init`, which writes a first job spec."""

import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.errors import UserError
from curation.wording import counted
from curation.workspace import Workspace
from distill.cli import completion
from distill.cli.common import JOBS, JsonOption, WorkspaceOption, print_json
from distill.cli.model_options import ModelFileOptions
from distill.cli.option_groups import grouped
from distill.cli.screen import note, write
from distill.spec_errors import SpecError

if TYPE_CHECKING:
    from curation.views import ImageSet
    from distill.first_spec.facts import (
        DataFacts,
        Facts,
        MachineFacts,
        StudentFacts,
        TeacherFacts,
    )
    from distill.first_spec.rules import Choice

USUAL_BUDGET = 450.0
"""MFLOPs by the LFR counter; those of MobileFaceNet"""
_NEW = "the new spec"


def register(app: typer.Typer) -> None:
    """Add the command to ``distill``."""
    app.command(rich_help_panel=JOBS)(init)


@grouped
def init(
    train: Annotated[
        list[str],
        typer.Option(
            metavar="DATASET/SET",
            help="A store or view of the workspace to train on; repeat for more.",
        ),
    ],
    teacher: Annotated[
        str | None,
        typer.Option(
            help="A file in the workspace's teachers/, or a finished job. Without a teacher, "
            "training uses the labels alone.",
            show_default=False,
            autocompletion=completion.teachers,
        ),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(help="A network listed by `distill backbones`.", show_default=False),
    ] = None,
    mflops: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=1e9,
            help="Instead of --student: the largest cost of the student in MFLOPs, as the LFR "
            "challenge counts them.",
            show_default=f"{USUAL_BUDGET:g}",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="The job's name.", show_default="from the data set and the student"),
    ] = None,
    *,
    file: ModelFileOptions,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Print a job spec with values chosen from the data, and the reason for each.

    The values depend on the numbers of images and identities, the teacher and this machine. The
    spec passes `distill check`.

    Example: distill init --train ms1m/clean --teacher r100 --mflops 450 > jobs/mine.toml

    Example: distill init --train faces/all --teacher r50.onnx --colour RGB --mean 127.5 --std 127.5
    """
    from distill.first_spec.rules import Choice, choose
    from distill.first_spec.text import spec_text
    from distill.pipeline.fit import check_fit
    from distill.spec_checks import check_names
    from distill.spec_text import parse_spec

    _check_options(train, student, mflops, name)
    place = Workspace.locate(workspace)
    given: list[tuple[str, Any, str]] = []
    if teacher is not None:
        with _option_instead_of_key("--teacher", teacher):
            given = _teacher_keys(teacher, file, place)
    facts = _facts(train, student, mflops or USUAL_BUDGET, given, place)
    named = name or job_name(train[0].split("/")[0], facts.student.backbone)
    with _naming(f"--train {', '.join(train)}"):
        chosen = choose(facts)
    choices = [
        Choice("", "name", named, "for `distill show` and `distill pull`"),
        *_data_choices(train, facts.data, place),
        *[Choice("teacher", key, value, why) for key, value, why in given],
        *chosen,
    ]
    text = spec_text(choices)
    job = parse_spec(text, _NEW)
    check_names(job, place)
    fit = check_fit(job, place)
    for notice in fit.notices:
        note(f"warning: {notice.text}")
    if json:
        settings = [
            {"key": each.name, "value": each.value, "reason": each.reason} for each in choices
        ]
        print_json({"name": named, "text": text, "choices": settings})
        return
    write(sys.stdout, text.rstrip("\n"))
    note(
        "save this as a file, say jobs/mine.toml: `distill check --estimate jobs/mine.toml` "
        "measures its cost, `distill submit jobs/mine.toml` runs it"
    )


def _check_options(
    train: Sequence[str], student: str | None, mflops: float | None, name: str | None
) -> None:
    """Raise ``UserError`` if options contradict each other or are malformed."""
    from distill.spec_source import check_name

    if student is not None and mflops is not None:
        raise UserError("give --student or --mflops, not both")
    for each in train:
        if each.count("/") != 1 or "" in each.split("/"):
            raise UserError(f"--train {each}: give a set of the workspace, such as ms1m/clean")
        if train.count(each) > 1:
            raise UserError(f"--train {each} is given twice; give each set once")
    if name is not None:
        with _naming("--name"):
            check_name(name)


def _facts(
    train: Sequence[str],
    student: str | None,
    mflops: float,
    teacher: list[tuple[str, Any, str]],
    place: Workspace,
) -> "Facts":
    """The facts that the spec is chosen from. ``mflops`` limits the student unless one is given."""
    from distill.data_spec import DataSpec, TrainingSet
    from distill.first_spec.facts import Facts
    from distill.pipeline.training_images import open_training_images
    from distill.spec_checks import STUDENT_START, check_backbone

    sets: Any = train[0] if len(train) == 1 else [TrainingSet(set=each) for each in train]
    images = open_training_images(DataSpec(train=sets), place)
    if student is not None:
        check_backbone(student, place, STUDENT_START)
    budget = mflops if student is None else None
    return Facts(
        _data_facts(images),
        _student_facts(student, budget),
        _machine_facts(place),
        _teacher_facts(teacher, place) if teacher else None,
        budget,
    )


def job_name(dataset: str, backbone: str) -> str:
    """A valid name of a job, from a data set and a network such as ``timm/resnet18``."""
    spelled = re.sub(r"[^a-z0-9.]+", "-", f"{dataset}-{backbone}".lower()).strip("-.")
    return spelled[-64:].lstrip("-.")


@contextmanager
def _naming(option: str) -> Iterator[None]:
    """Prefix errors in the block with the option that they are about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{option}: {error}") from None


@contextmanager
def _option_instead_of_key(option: str, value: str) -> Iterator[None]:
    """Errors at a key of the spec, which the user has not seen, name the option."""
    try:
        yield
    except SpecError as error:
        raise UserError(f"{option} {value}: {error.reason}") from None


def _data_facts(images: "ImageSet") -> "DataFacts":
    import numpy as np

    from distill.first_spec.facts import DataFacts

    return DataFacts(
        images=len(images),
        labelled=len(images) - images.unlabelled,
        identities=images.identities,
        repeated=int((np.diff(images.offsets) > 1).sum()),
        image_size=images.image_size,
        bytes=sum(_size_of(store.path) for store in images.store.stores),
    )


def _size_of(folder: Path) -> int:
    return sum(each.stat().st_blocks * 512 for each in folder.iterdir() if each.is_file())


def _student_facts(student: str | None, budget: float | None) -> "StudentFacts":
    from distill.catalogue import catalogue, describe
    from distill.first_spec.facts import StudentFacts
    from distill.first_spec.rules import choose_student

    def facts_of(row: dict[str, Any]) -> StudentFacts:
        height, width = row["input_size"]
        madds, mflops = row["madds"] / 1e6, row["lfr_flops"] / 1e6
        size = (height, width)
        return StudentFacts(row["name"], row["family"], row["embedding"], size, madds, mflops)

    known = {row["name"]: row for row in catalogue()}
    if student is not None:
        return facts_of(known.get(student) or describe(student))
    assert budget is not None
    return choose_student(budget, [facts_of(row) for row in known.values()])


def _machine_facts(place: Workspace) -> "MachineFacts":
    from distill.daemon.machine import this_machine
    from distill.first_spec.facts import MachineFacts

    machine = this_machine()
    free = shutil.disk_usage(place.root).free
    return MachineFacts(len(machine.gpus), machine.cores, machine.memory, free)


def _teacher_keys(
    name: str,
    file: ModelFileOptions,
    place: Workspace,
) -> list[tuple[str, Any, str]]:
    """The keys of [teacher] that identify it, with their reasons."""
    from distill.cli.curate.set_embedder import check_file_options
    from distill.pipeline.teacher_files import find_teacher
    from distill.run_directory import BUNDLE
    from teachers.sources import is_onnx, is_weights, missing_preprocessing

    choice = file.choice(name)  # reports an invalid option by its name
    preprocessing = {"colour": file.colour, "mean": file.mean, "std": file.std}
    elsewhere = Path(name).is_absolute() or not (place.teachers / name).exists()
    name = _inside(Path(name), place) if elsewhere and Path(name).exists() else name
    if (place.teachers / name).exists() or (place.runs / name / BUNDLE).exists():
        check_file_options(choice, find_teacher(name, place))
    if not (is_onnx(name) or is_weights(name) or file.backbone is not None):
        return [("from", name, "a finished job, or a bundle in teachers/")]
    find_teacher(name, place)  # a missing file is reported before its missing options
    keys: list[tuple[str, Any, str]] = [("from", name, "in the workspace's teachers/")]
    if missing := missing_preprocessing(preprocessing, name, file.backbone, "--"):
        raise UserError(f"--teacher {name}: {missing}")
    if file.backbone is not None:
        keys.append(("backbone", file.backbone, "the network of these weights"))
    if file.part is not None:
        keys.append(("output" if is_onnx(name) else "part", file.part, "of the file"))
    expected = {**preprocessing, "size": [file.size, file.size]}
    return [
        *keys,
        ("preprocessing", expected, "the pixels that the network expects, as its authors state"),
    ]


def _inside(file: Path, place: Workspace) -> str:
    """The path of a file in the workspace's teachers/ as written in a job spec."""
    folder = place.teachers.resolve()
    if not file.resolve().is_relative_to(folder):
        copy, target = "cp -r" if file.is_dir() else "cp", shlex.quote(str(place.teachers))
        raise UserError(
            f"--teacher {file}: a job spec can only name files in {place.teachers}; run "
            f"`mkdir -p {target} && {copy} {shlex.quote(str(file))} {target}` and give --teacher "
            f"{file.name}"
        )
    return str(file.resolve().relative_to(folder))


def _teacher_facts(keys: list[tuple[str, Any, str]], place: Workspace) -> "TeacherFacts":
    from pydantic import ValidationError

    from curation.faults import requirement
    from distill.first_spec.facts import TeacherFacts
    from distill.network_spec import TeacherSpec
    from distill.pipeline.teacher_files import open_spec_teacher
    from teachers.setting_words import settings_are_options

    given = {key: value for key, value, _ in keys}
    try:
        spec = TeacherSpec.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = "".join(f"{each}: " for each in fault["loc"][:1])
        raise UserError(f"--teacher {given['from']}: {where}{requirement(fault)}") from None
    with _option_instead_of_key("--teacher", given["from"]), settings_are_options():
        return TeacherFacts(open_spec_teacher(spec, place).embedding, given)


def _data_choices(train: Sequence[str], data: "DataFacts", place: Workspace) -> "list[Choice]":
    from distill.first_spec.rules import Choice

    labels = ", no labels"
    if data.identities:
        labelled = "" if data.labelled == data.images else f", {data.labelled:,} of them"
        labels = f"{labelled} of {counted(data.identities, 'identity')}"
    sets: Any = train[0] if len(train) == 1 else [{"set": each} for each in train]
    chosen = [Choice("data", "train", sets, f"{data.images:,} images{labels}")]
    folder = train[0].split("/")[0]
    known = place.pair_sets()
    pairs = [each.split("/")[1] for each in known if each.split("/")[0] == folder]
    why = "the verification sets next to it"
    if not pairs:
        more = f'"{known[0]}" is one elsewhere' if known else "`curate pairs` makes one"
        why = f"no verification set is next to it; {more}"
    return [*chosen, Choice("data", "evaluate", pairs, why)]

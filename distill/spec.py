"""Job specs: one TOML file says everything, and is checked at the door.

``parse_spec`` checks keys, types and ranges and needs no torch; ``load_spec`` also checks what
only the registries and the workspace know: backbones, losses, data sets, teachers, and whether
the pieces fit together.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from curation.errors import UserError
from curation.workspace import Workspace
from distill.budget import Budget
from distill.training.config import SamplerSettings, Strict, TrainSettings
from teachers.ensemble import Combination
from teachers.preprocessing import Preprocessing, Size
from teachers.sources import ONNX_SUFFIX, WEIGHT_SUFFIXES, is_onnx, is_weights, usual_preprocessing

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
SPEC_WORDS = "the job spec"
"""How messages call a spec that came without a file name."""
LARGEST_SPEC = 1 << 20
"""Bytes. A job spec is a page of text."""
Losses = dict[str, dict[str, Any]]


class DataSpec(Strict):
    """``train`` is a store or view of the workspace; ``evaluate`` names sets of pairs or images.

    A bare name in ``evaluate`` lies in the folder of ``train``; ``DATASET/NAME`` elsewhere.
    """

    train: str = Field(pattern=r"^[^/]+/[^/]+$")
    evaluate: list[str] = Field(default=[])


class NetworkSpec(Strict):
    """A network of the registry, its embedding length, input (height, width) and width factor."""

    backbone: str
    embedding: PositiveInt | None = None
    input_size: Size | None = None
    width: PositiveFloat = 1.0


class StudentSpec(NetworkSpec):
    """The network that learns, and what it may cost."""

    budget: Budget | None = None


class TeacherTraining(Strict):
    """How a teacher of our own is trained."""

    epochs: PositiveInt
    losses: Losses


class TeacherSource(Strict):
    """A teacher that is there: ``from`` is a file in the workspace's teachers/, or a finished job.

    An ``.onnx`` file, or a file of weights (``.pth``, ``.pt``, ``.ckpt``, ``.safetensors``) with
    the ``backbone`` that they belong to, its ``embedding`` and ``width`` where they are not the
    default ones. Both need their ``preprocessing``, whose size is the network's; a job knows its
    own.
    """

    source: Annotated[str | None, Field(alias="from")] = None
    backbone: str | None = None
    embedding: PositiveInt | None = None
    width: PositiveFloat = 1.0
    preprocessing: Preprocessing | None = None

    @model_validator(mode="after")
    def _as_its_file_needs(self) -> "TeacherSource":
        source = self.source or ""
        described = {"backbone", "embedding", "width"} & self.model_fields_set
        if described and not is_weights(source):
            raise ValueError(
                f"{', '.join(sorted(described))}: only beside from = a file of weights "
                f"({', '.join(WEIGHT_SUFFIXES)})"
            )
        if (self.preprocessing is not None) != (is_onnx(source) or is_weights(source)):
            raise ValueError(
                "preprocessing belongs to an .onnx file or a file of weights, and they need one: "
                "preprocessing = { colour, mean, std, size }; "
                + usual_preprocessing(source, self.backbone)
            )
        return self

    @property
    def weights_network(self) -> NetworkSpec | None:
        """The network that a file of weights belongs to; None where it is not said."""
        if self.backbone is None:
            return None
        return NetworkSpec(backbone=self.backbone, embedding=self.embedding, width=self.width)


class TeacherSpec(TeacherSource):
    """A teacher that is there (``from``), several put together (``ensemble``), or a ``network`` to
    be trained here by ``stage`` and ``train``."""

    ensemble: list[TeacherSource] = Field(default=[])
    combine: Combination = "concatenate"
    network: NetworkSpec | None = None
    stage: TeacherTraining | None = None
    train: TrainSettings = TrainSettings()

    @model_validator(mode="after")
    def _one_kind(self) -> "TeacherSpec":
        if [self.source is None, not self.ensemble, self.network is None].count(False) != 1:
            raise ValueError(
                'say one of from = "...", [[teacher.ensemble]], or a [teacher.network] to train'
            )
        if (self.network is None) != (self.stage is None):
            raise ValueError("[teacher.network] and [teacher.stage] go together")
        if "combine" in self.model_fields_set and not self.ensemble:
            raise ValueError("combine is how the members of a [[teacher.ensemble]] go together")
        if any(member.source is None for member in self.ensemble):
            raise ValueError('each [[teacher.ensemble]] needs from = "..."')
        return self

    @property
    def sources(self) -> list[TeacherSource]:
        """The teachers that are there: one, the members of an ensemble, or none."""
        return [self] if self.source is not None else self.ensemble


class StageSpec(Strict):
    """One stage of a student's training; stages run in order, each from the weights before."""

    epochs: PositiveInt
    losses: Losses
    sampler: SamplerSettings = SamplerSettings()


class GenerationsSpec(Strict):
    """Recursive distillation: ``count`` times the same teacher, from the student before."""

    count: PositiveInt = 1


class JobSpec(Strict):
    """A whole job. Without ``student`` it trains the teacher alone; without ``teacher`` it learns
    from the labels alone."""

    name: str = Field(pattern=NAME_PATTERN)
    data: DataSpec
    teacher: TeacherSpec | None = None
    student: StudentSpec | None = None
    stage: list[StageSpec] = Field(default=[])
    generations: GenerationsSpec = GenerationsSpec()
    train: TrainSettings = TrainSettings()

    @model_validator(mode="after")
    def _something_to_train(self) -> "JobSpec":
        if self.student is None and (self.teacher is None or self.teacher.network is None):
            raise ValueError("nothing to train: give a [student], or a [teacher.network]")
        if (self.student is None) != (not self.stage):
            raise ValueError("[student] and [[stage]] go together")
        return self

    @model_validator(mode="after")
    def _whole_identities(self) -> "JobSpec":
        pieces = (self.train.ranks or 1) * self.train.accumulate
        for index, stage in enumerate(self.stage):
            try:
                stage.sampler.check_shares(self.train.batch_size, pieces)
            except ValueError as error:
                raise ValueError(f"stage.{index}.sampler: {error}") from None
        return self


def parse_spec(text: str, origin: str) -> JobSpec:
    """Check the form of a spec; ``UserError`` names ``origin``, every bad key, what is allowed."""
    try:
        return JobSpec.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{origin} is not TOML: {error}") from None
    except RecursionError:
        raise UserError(f"{origin} is nested too deeply") from None
    except ValidationError as error:
        raise UserError(f"{origin}: {describe(error, JobSpec)}") from None


def load_spec(path: Path, workspace: Workspace) -> JobSpec:
    """Read and check a spec against the registries and the workspace; ``UserError`` otherwise."""
    spec = parse_spec(read_spec(path), str(path))
    try:
        _check_data(spec, workspace)
        _check_networks(spec, workspace)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return spec


def read_spec(path: Path) -> str:
    """The text of a job spec; ``UserError`` where the file cannot be one."""
    if not path.is_file():
        kind = "is not a file" if path.exists() else "does not exist"
        raise UserError(f"the job spec {path} {kind}; give a TOML file such as jobs/sample.toml")
    with path.open("rb") as file:
        return decode_spec(file.read(LARGEST_SPEC + 1), str(path))


def decode_spec(data: bytes, what: str = SPEC_WORDS) -> str:
    """Bytes from outside as the text of a spec; ``UserError`` where they are no such text."""
    if len(data) > LARGEST_SPEC:
        raise UserError(f"{what} is larger than {LARGEST_SPEC >> 20} MiB: not a job spec")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{what} is not UTF-8 text ({error.reason} at byte {error.start})"
        ) from None


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """All faults in one line, each with its key and, for an unknown key, the allowed ones."""
    faults = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            allowed = ", ".join(_fields_at(model, fault["loc"][:-1]))
            faults.append(f"unknown key {key!r} (allowed here: {allowed})")
        elif fault["type"] == "missing":
            faults.append(f"{key!r} is missing")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            given = (
                f", got {fault['input']!r:.80}"
                if isinstance(fault["input"], str | int | float)
                else ""
            )
            faults.append(f"{key}: {message}{given}" if key else message)
    return "; ".join(faults)


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the table at ``location`` of ``model`` takes."""
    for part in location:
        if isinstance(part, str):
            by_key = {field.alias or name: field for name, field in model.model_fields.items()}
            model = _table_of(by_key[part].annotation)
    return [field.alias or name for name, field in model.model_fields.items()]


def _table_of(annotation: Any) -> type[BaseModel]:
    """The model inside ``Model``, ``Model | None`` or ``list[Model]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(
        inner
        for inner in annotation.__args__
        if isinstance(inner, type) and issubclass(inner, BaseModel)
    )


def evaluation_sets(spec: JobSpec, workspace: Workspace) -> dict[str, Path]:
    """Where each evaluation set lies: a ``.bin`` of pairs, or a store or view for all pairs."""
    return {name: _evaluation_set(name, spec, workspace) for name in spec.data.evaluate}


def pair_sets(spec: JobSpec, workspace: Workspace) -> list[Path]:
    """The evaluation sets that are quick to score: those of pairs."""
    return [path for path in evaluation_sets(spec, workspace).values() if path.suffix == ".bin"]


def _evaluation_set(name: str, spec: JobSpec, workspace: Workspace) -> Path:
    full = name if "/" in name else f"{spec.data.train.split('/')[0]}/{name}"
    pairs = workspace.inside(f"{full}.bin", workspace.datasets, "data.evaluate")
    return pairs if pairs.is_file() else workspace.image_set(full, "data.evaluate")


def teacher_path(source: str, workspace: Workspace) -> Path:
    """The file in teachers/, or the bundle of the finished job, that ``from`` names."""
    if is_onnx(source) or is_weights(source):
        path = workspace.inside(source, workspace.teachers, "teacher.from")
        if path.is_file():
            return path
        raise UserError(f"teacher.from: no file {path}; put it there")
    bundle = workspace.inside(source, workspace.runs, "teacher.from") / "bundle"
    if bundle.is_dir():
        return bundle
    raise UserError(
        f"teacher.from: {source!r} is no file ({', '.join((ONNX_SUFFIX, *WEIGHT_SUFFIXES))}) and "
        f"no finished job ({bundle} is missing); run that job first"
    )


def _check_data(spec: JobSpec, workspace: Workspace) -> None:
    workspace.image_set(spec.data.train, "data.train")
    _check_evaluation(spec, pair_sets(spec, workspace))
    for teacher in spec.teacher.sources if spec.teacher is not None else []:
        assert teacher.source is not None
        teacher_path(teacher.source, workspace)


def _check_evaluation(spec: JobSpec, pairs: list[Path]) -> None:
    trainings = {"train": spec.train}
    if spec.teacher is not None and spec.teacher.network is not None:
        trainings["teacher.train"] = spec.teacher.train
    for key, settings in trainings.items():
        if settings.evaluate_every is not None and not pairs:
            raise UserError(
                f"{key}.evaluate_every is {settings.evaluate_every} but data.evaluate names no "
                'set of pairs (a .bin file); name one, such as evaluate = ["lfw"], or leave '
                "evaluate_every out"
            )


def _check_networks(spec: JobSpec, workspace: Workspace) -> None:
    from distill.backbones import lookup
    from distill.losses import LOSSES, parse_losses

    if spec.teacher is not None and spec.teacher.network is not None:
        assert spec.teacher.stage is not None
        lookup(spec.teacher.network.backbone)
        losses = parse_losses(spec.teacher.stage.losses, "teacher.stage.losses")
        guided = [name for name in losses if LOSSES[name].needs_teacher]
        if guided:
            raise UserError(f"teacher.stage.losses.{guided[0]}: a teacher has no teacher")
    if spec.student is None:
        return
    lookup(spec.student.backbone)
    for index, stage in enumerate(spec.stage):
        losses = parse_losses(stage.losses, f"stage.{index}.losses")
        guided = [name for name in losses if LOSSES[name].needs_teacher]
        if guided and spec.teacher is None:
            raise UserError(f"stage.{index}.losses.{guided[0]}: needs a [teacher]")

"""Checks that the parts of a job fit together, before anything is queued or run.

Everything on disk at submission is checked then, because a fault that appears after the expensive
steps costs days. The checks call the parts themselves, so there is one set of rules.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from curation.errors import UserError
from curation.toml_positions import Location
from curation.views import ImageSet
from curation.workspace import Workspace
from distill.budget import check_budget
from distill.losses import ComparisonSettings, LossSettings
from distill.losses.needs import Supply, lacking, seldom
from distill.network_spec import StudentSpec
from distill.notices import Notice
from distill.pipeline.architecture import Architecture
from distill.pipeline.beginning import OldNetwork, check_beginning, check_frozen, given_beginning
from distill.pipeline.evaluation_fit import check_int8, check_protocols, check_sets, open_sets
from distill.pipeline.image_fit import check_image_sizes, input_sizes
from distill.pipeline.planning import guided
from distill.pipeline.teacher_answers import required_answers
from distill.pipeline.training_images import check_labels, digests, open_training_images
from distill.spec import JobSpec
from distill.spec_checks import check_names, comes_later, coming_teachers
from distill.spec_errors import SpecError, in_words, within
from distill.spec_text import SpecFile
from distill.training.config import SamplerSettings, TrainSettings
from distill.training.plan import SHUFFLE
from distill.training.shares import (
    check_engine,
    check_shares,
    job_ranks,
    shares_of,
    suits_any_network,
    supply,
)
from teachers.embedder import Embedder
from teachers.embeddings import check_room
from teachers.preprocessing import InputSizeError


@dataclass
class Fit:
    """The findings about a job that can run; ``notices`` are about settings without effect."""

    notices: list[Notice]
    teacher: Embedder | None
    data: dict[str, str] = field(default_factory=dict)
    """Digests of the data sets, by their names in the spec"""
    old: OldNetwork | None = None
    """The network that the student starts from"""

    def take_teacher(self) -> Embedder:
        """The given teacher, opened for the check; ownership passes to the caller."""
        teacher, self.teacher = self.teacher, None
        assert teacher is not None, "the job has a teacher that is given, and takes it once"
        return teacher


def check_job(spec: SpecFile, workspace: Workspace, coming: Collection[str] = frozenset()) -> Fit:
    """Raise ``UserError``, with the place in the spec, if the job cannot be run.

    Does not check what depends on a teacher that a job in ``coming`` has yet to train.
    """
    with spec.placed():
        check_names(spec.job, workspace, coming)
        return check_fit(spec.job, workspace, coming)


def check_fit(spec: JobSpec, workspace: Workspace, coming: Collection[str] = frozenset()) -> Fit:
    """Raise ``SpecError`` if the parts of a spec cannot work together; trains nothing."""
    images = open_training_images(spec.data, workspace)
    sets = open_sets(spec, workspace)
    check_int8(spec, images, sets)
    check_protocols(spec, sets)
    ranks = ranks_of(spec)
    awaited = bool(coming_teachers(spec, coming))
    teacher = None if awaited else given_teacher(spec, workspace)
    if spec.teacher is not None and teacher is not None and guided(spec):
        needed = required_answers(images, spec.augment, spec.teacher.precision)
        if spec.teacher.answers != "online":
            check_room(teacher, images, workspace.cache, needed)
    length = _teacher_embedding(spec, teacher)
    later = comes_later(spec.student, coming)
    old = None if later else given_beginning(spec.student, workspace)
    student = None if later else student_architecture(spec, length, old)
    _check_formats(spec, student)
    trainings = list(_trainings(spec, student, ranks))
    # The stages of a student do not differ in anything that affects the network.
    networks = {training.key: training for training in trainings}
    notices = [*check_sets(spec, workspace, sets, images), *_unused_teacher(spec)]
    for training in networks.values():
        notices += training.check_network()
    check_image_sizes(spec, images, sets, _input_sizes(networks, teacher))
    if spec.student is not None and student is not None:
        if old is not None:
            notices += check_beginning(old, spec.student, student)
            if spec.stage and spec.stage[0].freeze:
                check_frozen(old, student)
        if not (awaited and spec.student.embedding is None):
            _check_student(spec, spec.student, student, length)
    for training in trainings:
        notices += training.check_losses(images)
    scored = {name: each.digest for name, each in sets.items()}
    return Fit(notices, teacher, {**digests(spec.data, images), **scored}, old)


def ranks_of(spec: JobSpec) -> int:
    """The number of ranks of the job; ``UserError`` if it is impossible."""
    trainings: dict[Location, TrainSettings] = {}
    if spec.teacher is not None and spec.teacher.network is not None:
        trainings["teacher", "train"] = spec.teacher.train
    if spec.student is not None:
        trainings["train",] = spec.train
    return job_ranks(trainings, spec.resources)


def given_teacher(spec: JobSpec, workspace: Workspace) -> Embedder | None:
    """The teacher, if the job has one and it exists."""
    if spec.teacher is None or spec.teacher.network is not None:
        return None
    from distill.pipeline.teacher_files import open_spec_teacher  # imports torch

    return open_spec_teacher(spec.teacher, workspace)


def student_architecture(
    spec: JobSpec, teacher: int | None, old: OldNetwork | None
) -> Architecture | None:
    """The student, given the width of its teacher's embedding; None if there is no student."""
    if spec.student is None:
        return None
    return Architecture.resolve(spec.student, teacher) if old is None else old.begun(spec.student)


def _check_formats(spec: JobSpec, student: Architecture | None) -> None:
    """Raise ``SpecError`` if a format cannot be written here, or not for this student."""
    from distill.export.exporter import check_installed, exporters

    try:
        check_installed(spec.export.formats)
    except UserError as error:
        raise SpecError(("export", "formats"), str(error)) from None
    if student is None:
        return
    for name in spec.export.formats:
        if reason := exporters()[name].why_not_fit(student.embedding, student.input_size):
            raise SpecError(("export", "formats"), reason)


def _teacher_embedding(spec: JobSpec, given: Embedder | None) -> int | None:
    """The width of the teacher's embedding; None if there is no teacher."""
    if given is not None:
        return given.embedding
    if spec.teacher is None or spec.teacher.network is None:
        return None
    return Architecture.resolve(spec.teacher.network).embedding


def _unused_teacher(spec: JobSpec) -> list[Notice]:
    if spec.teacher is None or spec.student is None or guided(spec):
        return []
    text = "no loss of any stage uses the [teacher], so it has no effect"
    return [Notice("unused teacher", text)]


def _input_sizes(
    networks: Mapping[Location, "_SpecTraining"], teacher: Embedder | None
) -> dict[Location, list[tuple[int, int]]]:
    """Input sizes by the place in the spec that they come from."""
    sizes: dict[Location, list[tuple[int, int]]] = {
        (*each.network, "input_size"): [each.architecture.input_size] for each in networks.values()
    }
    return sizes if teacher is None else {**sizes, ("teacher",): input_sizes(teacher)}


def _check_student(
    spec: JobSpec, student: StudentSpec, resolved: Architecture, teacher: int | None
) -> None:
    """Check its budget, and its embedding against the teacher's width ``teacher``."""
    if student.budget is not None:
        check_budget(
            student.budget,
            resolved.backbone,
            resolved.embedding,
            resolved.input_size,
            resolved.width,
        )
    if teacher is not None and teacher != resolved.embedding:
        _check_comparisons(spec, resolved.embedding, teacher)


def _trainings(
    spec: JobSpec, student: Architecture | None, ranks: int
) -> Iterator["_SpecTraining"]:
    """The teacher's training, and one for each stage of the student if its network is known."""
    if spec.teacher is not None and spec.teacher.network is not None:
        assert spec.teacher.stage is not None
        losses = spec.teacher.stage.losses
        architecture = Architecture.resolve(spec.teacher.network)
        yield _SpecTraining(
            ("teacher", "train"),
            ("teacher", "stage"),
            ("teacher", "network"),
            architecture,
            spec.teacher.train,
            ranks,
            losses,
        )
    for index, stage in enumerate(spec.stage if student is not None else []):
        assert student is not None
        settings = stage.settings(spec.train)
        yield _SpecTraining(
            ("train",),
            ("stage", index),
            ("student",),
            student,
            settings,
            ranks,
            stage.losses,
            stage.sampler,
            spec.student is not None and spec.student.dropout is not None,
        )


@dataclass(frozen=True)
class _SpecTraining:
    """One training of the job; ``key``, ``stage`` and ``network`` locate its tables in the spec."""

    key: Location
    stage: Location
    network: Location
    architecture: Architecture
    settings: TrainSettings
    ranks: int
    losses: dict[str, LossSettings]
    sampler: SamplerSettings = SHUFFLE
    drops: bool = False

    def check_network(self) -> list[Notice]:
        """Raise ``UserError`` if the network cannot be built or trained with these settings."""
        with self._full_keys():
            check_engine(self.settings)
            check_shares(self.settings, self.ranks)
            suits = suits_any_network(self.settings, self.ranks)
        known = self.architecture.is_known and suits and not self.drops
        return [] if known else self._try_network()

    def _try_network(self) -> list[Notice]:
        """Try it with torch: the network is not in the catalogue, or its settings are unusual."""
        import torch

        from distill.training.dropout import embedding_layer_of
        from distill.training.trial import check_network

        with self._full_keys():
            with torch.device("meta"):
                network = self.architecture.build()
            if self.drops:
                with within(*self.network, "dropout"):
                    embedding_layer_of(network)
            return check_network(network, self.architecture.input_size, self.settings, self.ranks)

    def check_losses(self, images: ImageSet) -> list[Notice]:
        """Raise ``UserError`` if a batch cannot be filled or no loss has an effect."""
        unlabelled = list(check_labels(images, self.losses, self.stage))
        with self._full_keys():
            given = supply(images, self.settings, self.sampler, self.ranks)
            on_centres = any(loss.needs_centres for loss in self.losses.values())
            if self.settings.centres.sharded and on_centres:
                shares_of(images.identities, self.ranks)
        return [*unlabelled, *self._rising(), *self._idle(given), *self._seldom(given)]

    def _rising(self) -> list[Notice]:
        initial, final = self.settings.learning_rate, self.settings.final_learning_rate
        if final is None or final <= initial:
            return []
        text = (
            f"{in_words(self.key)}.learning_rate is {initial:g} and final_learning_rate {final:g}: "
            f"the learning rate of {in_words(self.stage)} rises to the end; lower "
            "final_learning_rate too"
        )
        return [Notice(f"rising learning rate: {in_words(self.stage)}", text)]

    def _idle(self, given: Supply) -> list[Notice]:
        """Notices about losses without effect; ``UserError`` if none has any."""
        reasons = {name: lacking(loss.needs, given) for name, loss in self.losses.items()}
        idle = {name: reason for name, reason in reasons.items() if reason is not None}
        if len(idle) == len(self.losses):
            each = (f"{name} has no effect: {reason}" for name, reason in idle.items())
            raise SpecError(
                (*self.stage, "losses"),
                "; ".join(each)
                + "; so this stage would learn nothing: change that, or give it other losses",
            )
        return [
            Notice(f"idle loss: {key}", f"{key} has no effect: {reason}")
            for key, reason in ((self._loss(name), reason) for name, reason in idle.items())
        ]

    def _loss(self, name: str) -> str:
        return in_words((*self.stage, "losses", name))

    def _seldom(self, given: Supply) -> list[Notice]:
        reasons = {
            name: seldom(loss.needs, given)
            for name, loss in self.losses.items()
            if lacking(loss.needs, given) is None
        }
        return [
            Notice(f"seldom: {key}", f"{key} will often have no effect: {reason}")
            for key, reason in ((self._loss(name), reason) for name, reason in reasons.items())
            if reason is not None
        ]

    @contextmanager
    def _full_keys(self) -> Iterator[None]:
        """Prefix ``train`` and ``sampler`` with this training's table, other keys with its
        network's."""
        try:
            yield
        except SpecError as error:
            table, *inner = error.location
            outer = {"train": self.key, "sampler": (*self.stage, "sampler")}.get(str(table))
            location = error.location if outer is None else (*outer, *inner)
            raise SpecError(location, error.reason) from None
        except UserError as error:
            key = "input_size" if isinstance(error, InputSizeError) else "backbone"
            raise SpecError((*self.network, key), str(error)) from None


def _check_comparisons(spec: JobSpec, student: int, teacher: int) -> None:
    """Raise ``SpecError`` if a loss compares vectors of these two different widths."""
    for index, stage in enumerate(spec.stage):
        for name, loss in stage.losses.items():
            if isinstance(loss, ComparisonSettings) and not loss.project:
                project = in_words(("stage", index, "losses", name, "project"))
                begins = spec.student is not None and spec.student.source is not None
                omitted = "" if begins else " (or leave it out)"
                raise SpecError(
                    ("student", "embedding"),
                    f"{student} is not the teacher's {teacher}, and {name} compares the two; "
                    f"allowed: {teacher}{omitted}, or {project} = true",
                )

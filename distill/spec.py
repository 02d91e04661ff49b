"""Job specs: one TOML file defines a job and is validated before anything runs.

This module has the keys, types and ranges, and does not import torch; ``distill.spec_text`` reads
the files. ``distill.spec_checks`` checks what depends on the registries and the workspace
(backbones, data sets, teachers).
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from curation.toml_positions import Location, in_words
from distill.data_spec import DataSpec
from distill.export.exporter import DEFAULT_FORMATS, FormatName
from distill.licence_spec import LicenceSpec
from distill.losses.settings_parsing import Losses
from distill.network_spec import StudentSpec, TeacherSpec
from distill.resources import Resources
from distill.spec_errors import SpecError, within
from distill.spec_source import check_name
from distill.training.augment import NO_AUGMENTATION, AugmentSettings
from distill.training.config import (
    FROZEN,
    Epochs,
    LearningRate,
    OptimiserStart,
    SamplerSettings,
    Share,
    Strict,
    TrainSettings,
)

Seed = Annotated[int, Field(ge=0, lt=2**32)]


class StageSpec(Strict):
    """One stage of a student's training; stages run in order, each from the previous weights.

    ``optimiser`` kept continues with the state of the previous stage. ``learning_rate`` and
    ``body_learning_rate`` replace those of ``train``. ``freeze`` keeps the body fixed: all layers
    up to and including the network's global operator, with their running statistics.
    """

    epochs: Epochs
    losses: Losses
    sampler: SamplerSettings = SamplerSettings()
    optimiser: OptimiserStart = "fresh"
    learning_rate: LearningRate | None = None
    body_learning_rate: Share | None = None
    freeze: Literal["body"] | None = None

    @model_validator(mode="after")
    def _check_body(self) -> "StageSpec":
        if self.freeze is not None and self.body_learning_rate is not None:
            raise SpecError(
                ("body_learning_rate",),
                'has no effect with freeze = "body"; leave one of them out',
            )
        return self

    def settings(self, train: TrainSettings) -> TrainSettings:
        """The settings of this stage, given those for all stages."""
        body = FROZEN if self.freeze else self.body_learning_rate
        rates = {"learning_rate": self.learning_rate, "body_learning_rate": body}
        return train.model_copy(
            update={key: value for key, value in rates.items() if value is not None}
        )


class GenerationsSpec(Strict):
    """Recursive distillation: ``count`` generations from the same teacher, each starting from the
    previous student.

    A generation is trained once with each of ``seeds`` (default: ``train.seed``), always from the
    same start, and the candidate with the highest score continues. The score is the mean accuracy
    on ``select_on`` (default: all pair sets of ``data.evaluate``).

    With ``stop_without_gain``, generations end with the first whose score does not exceed the
    previous one by more than ``least_gain`` and by more than noise, and the previous one is
    delivered. The noise is that of `distill compare`: the difference is noise if its 95 % interval
    includes 0, with both scored on the same bootstrap samples of people.
    """

    count: int = Field(default=1, ge=1, le=1000)
    seeds: list[Seed] = Field(default=[], max_length=100)
    select_on: list[str] = Field(default=[])
    stop_without_gain: bool = False
    least_gain: float = Field(default=0.0, ge=0, lt=1)

    @property
    def scored(self) -> bool:
        """Whether candidates' scores are used."""
        return len(self.seeds) > 1 or self.stop_without_gain

    @model_validator(mode="after")
    def _check_combinations(self) -> "GenerationsSpec":
        if len(set(self.seeds)) < len(self.seeds):
            raise SpecError(("seeds",), f"{self.seeds} has a duplicate; list each once")
        if self.stop_without_gain and self.count == 1:
            raise SpecError(
                ("stop_without_gain",), "needs a count above 1: there is nothing to stop"
            )
        if "least_gain" in self.model_fields_set and not self.stop_without_gain:
            raise SpecError(("least_gain",), "needs stop_without_gain = true; leave it out")
        if self.select_on and not self.scored:
            raise SpecError(("select_on",), "needs several seeds or stop_without_gain = true")
        return self


class ExportSpec(Strict):
    """The ``formats`` of the network in the bundle, besides its weights."""

    formats: list[FormatName] = Field(default=[*DEFAULT_FORMATS], min_length=1)

    @model_validator(mode="after")
    def _check_duplicates(self) -> "ExportSpec":
        if len(set(self.formats)) < len(self.formats):
            raise SpecError(("formats",), f"{self.formats} has a duplicate; list each once")
        return self


PROTOCOL_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]+:/."
ProtocolName = Annotated[str, Field(pattern=PROTOCOL_PATTERN)]
"""NAME:FOLDER with an absolute path"""


class EvaluateSpec(Strict):
    """What to evaluate besides the sets of ``data.evaluate``, and when.

    ``protocols`` are published evaluations, ``NAME:/FOLDER`` (`distill.evaluation.protocols`).
    ``at_intervals`` names the sets and protocols that are also scored every ``evaluate_every``
    steps (default: the pair sets), as many as fit into ``seconds`` together.
    """

    protocols: list[ProtocolName] = Field(default=[], max_length=100)
    at_intervals: list[str] = Field(default=[], max_length=100)
    seconds: float | None = Field(default=None, gt=0, le=1e6)

    @model_validator(mode="after")
    def _check_duplicates(self) -> "EvaluateSpec":
        names = [each.split(":")[0] for each in self.protocols]
        for key, given in (("protocols", names), ("at_intervals", self.at_intervals)):
            if len(set(given)) < len(given):
                twice = next(name for name in given if given.count(name) > 1)
                raise SpecError((key,), f"{twice!r} is listed twice; list each once")
        return self


class JobSpec(Strict):
    """A whole job. Without ``student`` it trains only the teacher; without ``teacher`` it learns
    from labels only."""

    name: Annotated[str, AfterValidator(check_name)]
    data: DataSpec
    teacher: TeacherSpec | None = None
    student: StudentSpec | None = None
    stage: list[StageSpec] = Field(default=[])
    generations: GenerationsSpec = GenerationsSpec()
    augment: AugmentSettings = NO_AUGMENTATION
    train: TrainSettings = TrainSettings()
    licence: LicenceSpec = LicenceSpec()
    evaluate: EvaluateSpec = EvaluateSpec()
    export: ExportSpec = ExportSpec()
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _check_networks(self) -> "JobSpec":
        if self.student is None and (self.teacher is None or self.teacher.network is None):
            raise ValueError("nothing to train: give a [student], or a [teacher.network]")
        if (self.student is None) != (not self.stage):
            raise ValueError("[student] and [[stage]] need each other; give both")
        if self.student is None and "generations" in self.model_fields_set:
            raise SpecError(
                ("generations",), "they apply to a student; leave them out, or give a [student]"
            )
        return self

    @model_validator(mode="after")
    def _check_licences(self) -> "JobSpec":
        sources = self.teacher.sources.values() if self.teacher is not None else ()
        there = {
            "data": [each.set for each in self.data.sets],
            "teacher": [each.source for each in sources if each.source],
        }
        for kind, names in there.items():
            given = getattr(self.licence, kind)
            for name in given if isinstance(given, dict) else ():
                if name not in names:
                    raise SpecError(
                        ("licence", kind, name),
                        f"there is no such {kind}; allowed: {', '.join(names) or 'nothing'}",
                    )
        return self

    @model_validator(mode="after")
    def _check_select_on(self) -> "JobSpec":
        for index, name in enumerate(self.generations.select_on):
            if name not in self.data.evaluate:
                raise SpecError(
                    ("generations", "select_on", index),
                    f"{name!r} is not in data.evaluate; "
                    f"allowed: {', '.join(self.data.evaluate) or 'nothing, as that is empty'}",
                )
        return self

    @model_validator(mode="after")
    def _check_at_intervals(self) -> "JobSpec":
        known = [*self.data.evaluate, *self.evaluate.protocols]
        for index, name in enumerate(self.evaluate.at_intervals):
            if name not in known:
                raise SpecError(
                    ("evaluate", "at_intervals", index),
                    f"{name!r} is neither in data.evaluate nor in evaluate.protocols; "
                    f"allowed: {', '.join(known) or 'nothing, as both are empty'}",
                )
        return self

    @model_validator(mode="after")
    def _check_freeze(self) -> "JobSpec":
        begins = self.student is not None and self.student.source is not None
        if self.stage and self.stage[0].freeze and not begins:
            raise SpecError(
                ("stage", 0, "freeze"),
                "the first stage would freeze random weights; freeze a later stage, or give "
                'student.from = "..."',
            )
        return self

    @model_validator(mode="after")
    def _check_stages(self) -> "JobSpec":
        if self.stage and self.stage[0].optimiser == "kept":
            raise SpecError(
                ("stage", 0, "optimiser"),
                '"kept" continues the previous stage, and the first stage of a generation has '
                'none; allowed: "fresh"',
            )
        lowest = self.train.final_learning_rate or 0.0
        for index, stage in enumerate(self.stage):
            if stage.learning_rate is not None and stage.learning_rate < lowest:
                raise SpecError(
                    ("stage", index, "learning_rate"),
                    f"{stage.learning_rate} is below train.final_learning_rate = {lowest}; "
                    "lower that too",
                )
        return self

    @model_validator(mode="after")
    def _check_ranks(self) -> "JobSpec":
        wanted = self.resources.ranks
        settings: dict[Location, TrainSettings] = {("train",): self.train}
        if self.teacher is not None:
            settings["teacher", "train"] = self.teacher.train
        for key, each in settings.items():
            if wanted and each.ranks not in (None, wanted):
                raise SpecError(
                    (*key, "ranks"),
                    f"{each.ranks} is not the number of GPUs, resources.gpus x nodes = {wanted}; "
                    "each rank has one GPU: give both the same value, or leave ranks out",
                )
        return self

    @model_validator(mode="after")
    def _check_views(self) -> "JobSpec":
        if self.augment.augments and self.student is None:
            raise SpecError(("augment",), "views are only for a student; leave it out")
        losses = [loss for stage in self.stage for loss in stage.losses.values()]
        if not any(loss.needs_teacher for loss in losses):
            for key in sorted({"least_cosine", "teacher_sees"} & self.augment.model_fields_set):
                raise SpecError(
                    ("augment", key),
                    "applies to the teacher's embeddings, and no loss of any stage compares with a "
                    "teacher",
                )
        return self

    @model_validator(mode="after")
    def _check_answers(self) -> "JobSpec":
        losses = [loss for stage in self.stage for loss in stage.losses.values()]
        answers = None if self.teacher is None else self.teacher.answers
        sees_plain = self.augment.teacher_sees == "plain"
        guided = any(loss.needs_teacher for loss in losses)
        if self.augment.views == "fresh" and guided and answers != "online" and not sees_plain:
            raise SpecError(
                ("augment", "views"),
                'the embeddings of "fresh" views cannot be cached; allowed: a number of views, '
                'teacher.answers = "online", or augment.teacher_sees = "plain"',
            )
        if answers == "online" and sees_plain:
            raise SpecError(
                ("augment", "teacher_sees"),
                "the embeddings of plain images are cached; "
                'allowed with teacher.answers = "online": "view"',
            )
        if answers == "online" and any(loss.needs_teacher_centres for loss in losses):
            raise SpecError(
                ("teacher", "answers"),
                '"online" gives no class centres of the teacher, which a loss needs; allowed: '
                '"float16", "int8"',
            )
        return self

    @model_validator(mode="after")
    def _check_mixed_images(self) -> "JobSpec":
        for index, stage in enumerate(self.stage if self.augment.mix else []):
            where = in_words(("stage", index))
            of_labels = {name: loss for name, loss in stage.losses.items() if loss.needs_labels}
            for name, loss in of_labels.items():
                if not loss.leaves_out_mixed:
                    raise SpecError(
                        ("augment", "mix"),
                        f"{name} of {where} uses labels, which mixed images do not have, and "
                        f"does not skip them (LossInputs.mean_over_labelled); leave mix out",
                    )
            remembers = self.student is not None and self.student.remember is not None
            if not remembers and not any(
                loss.needs_teacher for loss in stage.losses.values() if not loss.needs_labels
            ):
                raise SpecError(
                    ("augment", "mix"),
                    f"no loss of {where} can learn from mixed images, which have no label; "
                    "add a loss that compares only with the teacher, such as angular, or "
                    "student.remember if the student starts from a network",
                )
        return self

    @model_validator(mode="after")
    def _check_samplers(self) -> "JobSpec":
        micro_batches = (self.train.ranks or self.resources.ranks or 1) * self.train.accumulate
        for index, stage in enumerate(self.stage):
            with within("stage", index, "sampler"):
                stage.sampler.check_shares(self.train.batch_size, micro_batches)
        return self

    @property
    def seeds(self) -> list[int]:
        """The seeds of each generation's candidates."""
        return self.generations.seeds or [self.train.seed]

"""The ``[student]`` and ``[teacher]`` tables of a job spec: networks and their files."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from curation.toml_positions import Location
from distill.budget import Budget
from distill.losses.settings import Weight
from distill.losses.settings_parsing import Losses
from distill.spec_errors import SpecError
from distill.training.config import Epochs, Strict, TrainSettings
from teachers.cache_files import Precision
from teachers.ensemble import Combination
from teachers.preprocessing import Preprocessing, Size
from teachers.sources import WEIGHT_SUFFIXES, is_onnx, is_weights, missing_preprocessing
from teachers.trial import LEAST_ACCURACY

LONGEST_EMBEDDING = 8192
EmbeddingLength = Annotated[int, Field(ge=1, le=LONGEST_EMBEDDING)]
Width = Annotated[float, Field(gt=0, le=8)]
"""A network's memory grows with its square."""


class NetworkSpec(Strict):
    """A registered network with its embedding width, input (height, width) and width factor."""

    backbone: str
    embedding: EmbeddingLength | None = None
    input_size: Size | None = None
    width: Width = 1.0


def _check_complete(given: Any) -> Any:
    """Runs before the preprocessing is validated, so that the message includes its makers' usual
    values."""
    settings = given.get("preprocessing") if isinstance(given, dict) else None
    if isinstance(settings, dict):
        source, backbone = given.get("from"), given.get("backbone")
        if missing := missing_preprocessing(settings, str(source), str(backbone)):
            raise SpecError(("preprocessing",), missing)
    return given


def _preprocessing_missing(source: str, backbone: str | None) -> str:
    return (
        "preprocessing belongs to an .onnx file or a file of weights, and they need one, "
        "preprocessing = { colour, mean, std, size }: "
        f"{missing_preprocessing({}, source, backbone)}"
    )


class StudentSpec(NetworkSpec):
    """The network to train, and limits on its cost.

    ``from`` is the network whose weights it starts from: a finished job, a bundle in the
    workspace's teachers/, or a weights file there with its ``preprocessing`` and the ``part`` of
    the file. Omitted keys of the student are taken from it. ``remember`` is the weight of a loss
    that keeps its embeddings close to those of that network (`distill.training.remembering`).
    ``dropout`` is the share of inputs of the embedding layer that each step drops.
    """

    backbone: str = ""
    source: Annotated[str | None, Field(alias="from")] = None
    part: str | None = None
    preprocessing: Preprocessing | None = None
    remember: Weight | None = None
    dropout: float | None = Field(default=None, gt=0, lt=1)
    budget: Budget | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_preprocessing(cls, given: Any) -> Any:
        return _check_complete(given)

    @model_validator(mode="after")
    def _check_source(self) -> "StudentSpec":
        source = self.source
        is_file = self.preprocessing is not None or (source is not None and is_weights(source))
        if not self.backbone and (source is None or is_file):
            raise SpecError(("backbone",), "is missing; name the network, such as mobilefacenet")
        ignored = {"part", "preprocessing", "remember"} & self.model_fields_set
        if source is None:
            if ignored:
                raise SpecError(
                    (min(ignored),),
                    'needs from = "...", the network to start from; add it, or leave this out',
                )
        elif is_onnx(source):
            raise SpecError(
                ("from",),
                "an ONNX graph cannot be trained; allowed: a finished job, a bundle, or a file of "
                f"weights ({', '.join(WEIGHT_SUFFIXES)})",
            )
        elif self.preprocessing is None and is_file:
            raise SpecError(("from",), _preprocessing_missing(source, self.backbone))
        elif self.preprocessing is None and self.part is not None:
            raise SpecError(("part",), "only with from = a file of weights")
        elif self.preprocessing is not None and self.input_size not in (
            None,
            self.preprocessing.size,
        ):
            raise SpecError(
                ("input_size",),
                f"{list(self.input_size or ())} is not the size in preprocessing, "
                f"{list(self.preprocessing.size)}; leave it out",
            )
        return self


class TeacherTraining(Strict):
    """How a teacher is trained in this job."""

    epochs: Epochs
    losses: Losses


class TeacherSource(Strict):
    """An existing teacher: ``from`` is a file in the workspace's teachers/, or a finished job.

    The file is an ``.onnx`` file, with the name of its ``output`` if it has several; or a file or
    folder of weights with their ``backbone``, its ``embedding`` and ``width`` unless they are the
    defaults, and the ``part`` of the file if it holds the network several times. All need their
    ``preprocessing``, whose size is the network's; a job knows its own.
    """

    source: Annotated[str | None, Field(alias="from")] = None
    backbone: str | None = None
    embedding: EmbeddingLength | None = None
    width: Width = 1.0
    part: str | None = None
    output: str | None = None
    preprocessing: Preprocessing | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_preprocessing(cls, given: Any) -> Any:
        return _check_complete(given)

    @model_validator(mode="after")
    def _check_source(self) -> "TeacherSource":
        source = self.source or ""
        described = {"backbone", "embedding", "width", "part"} & self.model_fields_set
        is_file = is_onnx(source) or is_weights(source)
        if described and (is_onnx(source) or (not is_file and self.preprocessing is None)):
            raise SpecError(
                (min(described),),
                f"only with from = a file of weights ({', '.join(WEIGHT_SUFFIXES)}) or a folder "
                "with such, and its preprocessing",
            )
        if self.output is not None and not is_onnx(source):
            raise SpecError(("output",), "only with from = an .onnx file with several outputs")
        if self.preprocessing is None and is_file:
            raise SpecError(("from",), _preprocessing_missing(source, self.backbone))
        return self

    @property
    def weights_network(self) -> NetworkSpec | None:
        """The network of a weights file; None if it is not named."""
        if self.backbone is None:
            return None
        return NetworkSpec(backbone=self.backbone, embedding=self.embedding, width=self.width)


class TeacherSpec(TeacherSource):
    """An existing teacher (``from``), a combination of several (``ensemble``), or a ``network``
    that is trained in this job by ``stage`` and ``train``.

    A job stops if the teacher classifies less than ``least_accuracy`` of a few hundred pairs
    correctly. ``answers`` selects the precision of its cached embeddings, or that it runs at every
    step instead.
    """

    ensemble: list[TeacherSource] = Field(default=[])
    combine: Combination = "concatenate"
    least_accuracy: Annotated[float, Field(ge=0, lt=1)] = LEAST_ACCURACY
    answers: Literal["float16", "int8", "online"] = "float16"
    network: NetworkSpec | None = None
    stage: TeacherTraining | None = None
    train: TrainSettings = TrainSettings()

    @model_validator(mode="after")
    def _check_kind(self) -> "TeacherSpec":
        if [self.source is None, not self.ensemble, self.network is None].count(False) != 1:
            raise ValueError(
                'give one of from = "...", [[teacher.ensemble]], or a [teacher.network] to train'
            )
        if (self.network is None) != (self.stage is None):
            raise ValueError("[teacher.network] and [teacher.stage] need each other; give both")
        if "combine" in self.model_fields_set and not self.ensemble:
            raise SpecError(
                ("combine",), "it combines the members of a [[teacher.ensemble]]; leave it out"
            )
        for index, member in enumerate(self.ensemble):
            if member.source is None:
                raise SpecError(("ensemble", index), 'each [[teacher.ensemble]] needs from = "..."')
        return self

    @property
    def precision(self) -> Precision:
        """The precision of the cached embeddings."""
        return "int8" if self.answers == "int8" else "float16"

    @property
    def sources(self) -> dict[Location, TeacherSource]:
        """The existing teachers by location: one, the members of an ensemble, or none."""
        if self.source is not None:
            return {(): self}
        return {("ensemble", index): member for index, member in enumerate(self.ensemble)}

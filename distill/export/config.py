"""Strict models of a bundle's JSON files, because bundles are untrusted input."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from curation.alignment import ALIGNED_SIZE, ARCFACE_POINTS
from curation.errors import UserError
from teachers.framing import Crop, Scaling, scaling_of, visible_part
from teachers.preprocessing import Preprocessing, Size, channels

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]
PrintableName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Point = Annotated[tuple[FiniteFloat, FiniteFloat], Field(strict=False)]
FileName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){0,7}$")
]
"""The name of a file below the bundle's folder."""
LICENCE_PATTERN = r"^[^\x00-\x1f\x7f]{1,500}$"
LicenceText = Annotated[str, Field(pattern=LICENCE_PATTERN)]
MirrorRule = Literal["sum", "none"]
Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
RateName = Annotated[str, Field(pattern=r"^1e-\d$")]
Interval = Annotated[tuple[FiniteFloat, FiniteFloat], Field(strict=False)]
"""The lower and upper bound of a 95 % interval"""


class BundleModel(BaseModel):
    """A frozen model that rejects unknown keys and does not convert types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class Alignment(BundleModel):
    """How faces are aligned before they reach the network: to the ArcFace template of 112x112.

    ``points`` are (x, y) of left eye, right eye, nose, left and right corner of the mouth, as seen
    in the image. `Framing` describes the part of the aligned face that the network sees.
    """

    template: Literal["arcface-112"] = "arcface-112"
    points: Annotated[tuple[Point, Point, Point, Point, Point], Field(strict=False)] = (
        ARCFACE_POINTS
    )
    transform: Literal["similarity"] = "similarity"
    border: Literal[0] = 0


class Framing(BundleModel):
    """How an aligned face becomes the network's input: its ``crop`` is scaled to the input size.

    ``image_size`` (height, width) is the size of the training images. ``scaling`` "area" averages
    the pixels that each new pixel covers.
    """

    image_size: Size
    crop: Crop
    scaling: Scaling

    @classmethod
    def of(cls, image_size: tuple[int, int], input_size: tuple[int, int]) -> "Framing":
        """The framing of `Preprocessing.resize`; raises the errors of `visible_part`."""
        crop = visible_part(image_size, input_size)
        scaling = scaling_of((crop.height, crop.width), input_size)
        return cls(image_size=image_size, crop=crop, scaling=scaling)


class FaceConfig(BundleModel):
    """Everything between a face crop and a comparison.

    ``framing`` is None in older bundles, whose networks were trained on squeezed images if aspect
    ratios differed.
    """

    preprocessing: Preprocessing
    framing: Framing | None = None
    layout: Literal["NCHW"] = "NCHW"
    dtype: Literal["float32"] = "float32"
    input_name: Literal["image"] = "image"
    output_name: Literal["embedding"] = "embedding"
    output_normalised: Literal[False] = False
    mirror: MirrorRule = "sum"
    distance: Literal["cosine"] = "cosine"
    alignment: Alignment = Alignment()

    @model_validator(mode="after")
    def _check_preprocessing(self) -> "FaceConfig":
        if missing := self.preprocessing.missing:
            raise ValueError(f"preprocessing lacks {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _check_framing(self) -> "FaceConfig":
        """Refuse a crop or scaling that differs from this package's."""
        if self.framing is None:
            return self
        try:
            expected = Framing.of(self.framing.image_size, self.preprocessing.size)
        except UserError as error:
            raise ValueError(f"framing.image_size: {error}") from None
        if self.framing != expected:
            raise ValueError(
                f"framing is {self.framing.model_dump_json()}, but that of such images is "
                f"{expected.model_dump_json()}"
            )
        return self

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the aligned faces that the network expects."""
        if self.framing is not None:
            return self.framing.image_size
        height, width = self.preprocessing.size
        return ALIGNED_SIZE if height == width else (height, width)


class Sizes(BundleModel):
    """The network's parameters and operations per image (see `distill.counting.Counts`)."""

    parameters: PositiveInt
    multiply_adds: NonNegativeInt
    lfr_flops: NonNegativeInt

    @property
    def mebibytes(self) -> float:
        """The size of the parameters as float32."""
        return self.parameters * 4 / (1 << 20)


class Terms(BundleModel):
    """The licence of a data set, a teacher, an initial network or the delivered ``weights``.

    None is unknown. ``through`` lists the networks that it applies through, nearest first: a
    student also depends on its teacher's data.
    """

    of: Literal["weights", "data", "teacher", "beginning"]
    name: PrintableName
    licence: LicenceText | None
    through: tuple[PrintableName, ...] = Field(default=(), strict=False, max_length=100)


def licence_of_weights(terms: Iterable[Terms]) -> str | None:
    """The licence of the delivered weights; None if it is unknown."""
    return next((each.licence for each in terms if each.of == "weights"), None)


class TrainedOn(BundleModel):
    """A data set used for training."""

    name: PrintableName
    digest: Digest
    images: PositiveInt
    identities: NonNegativeInt


class Measured(BundleModel):
    """A figure with its 95 % interval, or None if there is no interval."""

    value: Rate
    interval: Interval | None = None


class Figures(BundleModel):
    """A network's scores: ten-fold accuracy, and TAR at each measured FAR."""

    accuracy: Measured | None
    tar_at_far: dict[RateName, Measured]


class SetScores(BundleModel):
    """The scores of the student and its teacher on a set."""

    digest: Digest
    genuine: NonNegativeInt
    impostors: NonNegativeInt
    student: Figures
    teacher: Figures | None = None


class Generation(BundleModel):
    """A generation of students, or the training of a teacher: its step ids, in order.

    ``accuracy`` is the ten-fold accuracy by set.
    """

    name: PrintableName
    steps: Annotated[tuple[PrintableName, ...], Field(strict=False)]
    accuracy: dict[PrintableName, Rate] = Field(default_factory=dict)


class Origin(BundleModel):
    """The origin and scores of the network; ``spec`` is the digest of the job spec."""

    job: PrintableName | None = None
    spec: Digest | None = None
    licences: Annotated[tuple[Terms, ...], Field(strict=False)] = ()
    data: Annotated[tuple[TrainedOn, ...], Field(strict=False)] = ()
    teachers: dict[PrintableName, Digest] = Field(default_factory=dict)
    generations: Annotated[tuple[Generation, ...], Field(strict=False)] = ()
    scores: dict[PrintableName, SetScores] = Field(default_factory=dict)


class TimmConfig(BundleModel):
    """The preprocessing in timm's format: ``mean`` and ``std`` of pixels 0 ... 1.

    It repeats `FaceConfig` for timm's loaders. It cannot express BGR, so only RGB networks have it.
    """

    input_size: Annotated[tuple[Literal[3], PositiveInt, PositiveInt], Field(strict=False)]
    fixed_input_size: Literal[True] = True
    mean: Annotated[tuple[FiniteFloat, FiniteFloat, FiniteFloat], Field(strict=False)]
    std: Annotated[tuple[FiniteFloat, FiniteFloat, FiniteFloat], Field(strict=False)]
    crop_pct: float = Field(default=1.0, ge=1, le=1)
    num_classes: Literal[0] = 0

    @classmethod
    def of(cls, preprocessing: Preprocessing) -> "TimmConfig | None":
        if preprocessing.colour != "RGB":
            return None
        mean, std = (channels(value) for value in (preprocessing.mean, preprocessing.std))
        return cls(
            input_size=(3, *preprocessing.size),
            mean=(mean[0] / 255, mean[1] / 255, mean[2] / 255),
            std=(std[0] / 255, std[1] / 255, std[2] / 255),
        )


FileNames = Annotated[tuple[FileName, ...], Field(strict=False, min_length=1, max_length=64)]


class BundleConfig(BundleModel):
    """``config.json``. The first keys are timm's; ``face`` has what timm's format lacks.

    ``architecture`` is a registered backbone with ``num_features`` dimensions at channel width
    ``width``, both within the limits of job specs. With ``face.mirror`` "sum", the feature is
    ``normalise(f(x) + f(mirrored x))``, with "none", ``normalise(f(x))``. ``formats`` maps each
    exported format to its files. ``thresholds`` repeats ``thresholds.json``. Values that older
    bundles lack are None.
    """

    schema_version: Literal[1] = 1
    architecture: Name
    num_features: int = Field(ge=1, le=8192)
    width: float = Field(default=1.0, gt=0, le=8, allow_inf_nan=False)
    face: FaceConfig
    formats: dict[Name, FileNames] = {"onnx": ("model.onnx",)}
    model_type: Literal["face-distill"] = "face-distill"
    num_classes: Literal[0] = 0
    pretrained_cfg: TimmConfig | None = None
    sizes: Sizes | None = None
    thresholds: "Thresholds | None" = None
    origin: Origin | None = None

    @model_validator(mode="after")
    def _check_pretrained_cfg(self) -> "BundleConfig":
        if self.pretrained_cfg not in (None, TimmConfig.of(self.face.preprocessing)):
            raise ValueError("pretrained_cfg disagrees with face.preprocessing")
        return self


class RateThreshold(BundleModel):
    """The threshold of one FAR, and the set that it was measured on.

    The 95 % intervals of the TAR (``interval``) and of the threshold are None in older bundles and
    for sets with too many pairs.
    """

    threshold: FiniteFloat
    tar: Rate
    set: PrintableName
    digest: Digest
    genuine: PositiveInt
    impostors: PositiveInt
    interval: Interval | None = None
    threshold_interval: Interval | None = None


class AccuracyThreshold(BundleModel):
    """The threshold of the best ten-fold accuracy, with its rates over all pairs of the set.

    Only older bundles lack the rates and the numbers of pairs.
    """

    threshold: FiniteFloat
    accuracy: Rate
    tar: Rate | None = None
    far: Rate | None = None
    set: PrintableName
    digest: Digest
    genuine: PositiveInt | None = None
    impostors: PositiveInt | None = None
    accuracy_interval: Interval | None = None

    @model_validator(mode="after")
    def _check_pairs(self) -> "AccuracyThreshold":
        if len({each is None for each in (self.tar, self.far, self.genuine, self.impostors)}) > 1:
            raise ValueError("tar, far, genuine and impostors go together")
        return self


class Thresholds(BundleModel):
    """``thresholds.json``: see ``distill.evaluation.thresholds.recommended_thresholds``."""

    distance: Literal["cosine"]
    rule: Literal["same person where cosine > threshold"]
    note: str
    false_accept_rates: dict[RateName, RateThreshold | None]
    best_accuracy: AccuracyThreshold | None

"""What a bundle's JSON files say, strictly: a bundle comes from elsewhere and is not trusted."""

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
"""Of a file below the bundle's folder."""
LICENCE_PATTERN = r"^[^\x00-\x1f\x7f]{1,500}$"
LicenceText = Annotated[str, Field(pattern=LICENCE_PATTERN)]
MirrorRule = Literal["sum", "none"]
Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
RateName = Annotated[str, Field(pattern=r"^1e-\d$")]
Interval = Annotated[tuple[FiniteFloat, FiniteFloat], Field(strict=False)]
"""The lowest and the highest, 95 %"""


class BundleModel(BaseModel):
    """Unknown keys and near-fitting types are errors; values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class Alignment(BundleModel):
    """How a face is cut out before it comes here: to the ArcFace template of 112x112 pixels.

    ``points`` are (x, y) of left eye, right eye, nose, left and right corner of the mouth, as seen
    in the image. What a network sees of the aligned face, `Framing` says.
    """

    template: Literal["arcface-112"] = "arcface-112"
    points: Annotated[tuple[Point, Point, Point, Point, Point], Field(strict=False)] = (
        ARCFACE_POINTS
    )
    transform: Literal["similarity"] = "similarity"
    border: Literal[0] = 0


class Framing(BundleModel):
    """How an aligned face becomes the network's input: ``crop`` of it, scaled to the input size.

    ``image_size`` (height, width) is that of the images that the network was trained on.
    ``scaling`` "area" averages what each new pixel covers.
    """

    image_size: Size
    crop: Crop
    scaling: Scaling

    @classmethod
    def of(cls, image_size: tuple[int, int], input_size: tuple[int, int]) -> "Framing":
        """What `Preprocessing.resize` does; raises the errors of `visible_part`."""
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
    def _nothing_left_unsaid(self) -> "FaceConfig":
        if unsaid := self.preprocessing.unsaid:
            raise ValueError(f"preprocessing lacks {', '.join(unsaid)}")
        return self

    @model_validator(mode="after")
    def _framed_as_here(self) -> "FaceConfig":
        """Refuse a crop or scaling that is not the one that this package does."""
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
        """(height, width) of the aligned faces that the network is for."""
        if self.framing is not None:
            return self.framing.image_size
        height, width = self.preprocessing.size
        return ALIGNED_SIZE if height == width else (height, width)


class Sizes(BundleModel):
    """Of the network: parameters, and operations for one image (see `distill.counting.Counts`)."""

    parameters: PositiveInt
    multiply_adds: NonNegativeInt
    lfr_flops: NonNegativeInt

    @property
    def mebibytes(self) -> float:
        """As float32."""
        return self.parameters * 4 / (1 << 20)


class Terms(BundleModel):
    """The licence of a set of data, of a teacher, of the network that a student began with, or of
    the delivered ``weights``. None is unknown. ``through`` are the networks from the nearest on
    through which it came here: the data of a teacher is that of its students, too."""

    of: Literal["weights", "data", "teacher", "beginning"]
    name: PrintableName
    licence: LicenceText | None
    through: tuple[PrintableName, ...] = Field(default=(), strict=False, max_length=100)


class TrainedOn(BundleModel):
    """A set of data that was trained on."""

    name: PrintableName
    digest: Digest
    images: PositiveInt
    identities: NonNegativeInt


class Measured(BundleModel):
    """A figure and its 95 % interval, None where there is none."""

    value: Rate
    interval: Interval | None = None


class Figures(BundleModel):
    """What a network scored: the ten-fold accuracy, and TAR at each FAR that was measured."""

    accuracy: Measured | None
    tar_at_far: dict[RateName, Measured]


class SetScores(BundleModel):
    """The student's scores on a set, and those of its teacher on the same."""

    digest: Digest
    genuine: NonNegativeInt
    impostors: NonNegativeInt
    student: Figures
    teacher: Figures | None = None


class Generation(BundleModel):
    """A generation of students, or the training of a teacher: its steps, in order, by their ids.

    ``accuracy`` is its own, by set.
    """

    name: PrintableName
    steps: Annotated[tuple[PrintableName, ...], Field(strict=False)]
    accuracy: dict[PrintableName, Rate] = Field(default_factory=dict)


class Origin(BundleModel):
    """What the network comes from and what it is worth; ``spec`` is the digest of the spec."""

    job: PrintableName | None = None
    spec: Digest | None = None
    licences: Annotated[tuple[Terms, ...], Field(strict=False)] = ()
    data: Annotated[tuple[TrainedOn, ...], Field(strict=False)] = ()
    teachers: dict[PrintableName, Digest] = Field(default_factory=dict)
    generations: Annotated[tuple[Generation, ...], Field(strict=False)] = ()
    scores: dict[PrintableName, SetScores] = Field(default_factory=dict)


class TimmConfig(BundleModel):
    """What timm's loaders look for: ``mean`` and ``std`` of pixels 0 ... 1. It says nothing that
    `FaceConfig` does not, and cannot say BGR, so that only networks of RGB have it."""

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
    """``config.json``. The first names are timm's; ``face`` says what timm does not.

    ``architecture`` is a registered backbone with ``num_features`` dimensions at channel width
    ``width``; ``face.mirror`` "sum" means that the feature is ``normalise(f(x) + f(mirrored x))``,
    "none" that it is ``normalise(f(x))``. ``formats`` are the names of the files of each format
    that the network was exported in. ``thresholds`` are those of ``thresholds.json`` again.
    None marks values that older bundles do not have.
    """

    schema_version: Literal[1] = 1
    architecture: Name
    num_features: PositiveInt
    width: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    face: FaceConfig
    formats: dict[Name, FileNames] = {"onnx": ("model.onnx",)}
    model_type: Literal["face-distill"] = "face-distill"
    num_classes: Literal[0] = 0
    pretrained_cfg: TimmConfig | None = None
    sizes: Sizes | None = None
    thresholds: "Thresholds | None" = None
    origin: Origin | None = None

    @model_validator(mode="after")
    def _says_the_same_twice(self) -> "BundleConfig":
        if self.pretrained_cfg not in (None, TimmConfig.of(self.face.preprocessing)):
            raise ValueError("pretrained_cfg says something else than face.preprocessing")
        return self


class RateThreshold(BundleModel):
    """The threshold of one FAR, with what it was measured on, and 95 % intervals of both: of the
    TAR (``interval``) and of the threshold. None in older bundles, and for too many pairs."""

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

    The rates and the numbers of pairs are None in older bundles only.
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
    def _all_or_none(self) -> "AccuracyThreshold":
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

"""What a bundle's JSON files say, strictly: a bundle comes from elsewhere and is not trusted."""

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    PositiveInt,
    model_validator,
)

from curation.alignment import ALIGNED_SIZE, ARCFACE_POINTS
from curation.errors import UserError
from teachers.framing import Crop, Scaling, scaling_of, visible_part
from teachers.preprocessing import Preprocessing, Size

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]
PrintableName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Point = Annotated[tuple[FiniteFloat, FiniteFloat], Field(strict=False)]
FileName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){0,7}$")
]
"""Of a file below the bundle's folder."""
Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


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
        """What `Preprocessing.resize` does; errors as of `visible_part`."""
        crop = visible_part(image_size, input_size)
        scaling = scaling_of((crop.height, crop.width), input_size)
        return cls(image_size=image_size, crop=crop, scaling=scaling)


class FaceConfig(BundleModel):
    """Everything between a face crop and a comparison.

    ``framing`` is None in bundles of before, whose networks were trained on squeezed images where
    aspects differed.
    """

    preprocessing: Preprocessing
    framing: Framing | None = None
    layout: Literal["NCHW"] = "NCHW"
    dtype: Literal["float32"] = "float32"
    input_name: Literal["image"] = "image"
    output_name: Literal["embedding"] = "embedding"
    output_normalised: Literal[False] = False
    mirror: Literal["sum", "none"] = "sum"
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


FileNames = Annotated[tuple[FileName, ...], Field(strict=False, min_length=1, max_length=64)]


class BundleConfig(BundleModel):
    """``config.json``. The first names are timm's; ``face`` says what timm does not.

    ``architecture`` is a registered backbone with ``num_features`` dimensions at channel width
    ``width``; ``face.mirror`` "sum" means that the feature is ``normalise(f(x) + f(mirrored x))``,
    "none" that it is ``normalise(f(x))``. ``formats`` are the names of the files of each format
    that the network was exported in; bundles of before do not say them.
    """

    schema_version: Literal[1] = 1
    architecture: Name
    num_features: PositiveInt
    width: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    face: FaceConfig
    formats: dict[Name, FileNames] = {"onnx": ("model.onnx",)}


class RateThreshold(BundleModel):
    """The threshold of one FAR, with what it was measured on."""

    threshold: FiniteFloat
    tar: Rate
    set: PrintableName
    digest: Digest
    genuine: PositiveInt
    impostors: PositiveInt


class AccuracyThreshold(BundleModel):
    """The threshold of the best ten-fold accuracy, with its rates over all pairs of the set.

    The rates and the numbers of pairs are None in bundles of before, and only there.
    """

    threshold: FiniteFloat
    accuracy: Rate
    tar: Rate | None = None
    far: Rate | None = None
    set: PrintableName
    digest: Digest
    genuine: PositiveInt | None = None
    impostors: PositiveInt | None = None

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
    false_accept_rates: dict[Annotated[str, Field(pattern=r"^1e-\d$")], RateThreshold | None]
    best_accuracy: AccuracyThreshold | None

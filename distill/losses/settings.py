"""The settings and requirements of every loss, without torch, so that specs are checked quickly.

``ArcFaceSettings`` belongs to the loss ``ArcFace``. A new loss may define its settings in its own
file; a spec that names it then imports torch to be checked.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.registry import check_unused, import_files
from distill.losses.needs import Needs
from distill.spec_errors import SpecError

Weight = Annotated[float, Field(gt=0, le=1e6)]
Scale = Annotated[float, Field(gt=0, le=1e4)]
"""Multiplies cosines before a softmax. Beyond the maximum, float32 cannot distinguish cosines."""
Radians = Annotated[float, Field(ge=0, lt=math.pi / 2, description="radians")]
CosineMargin = Annotated[float, Field(ge=0, lt=1)]
SquaredDistance = Annotated[float, Field(ge=0, le=4, description="squared distance")]
"""Squared distance of unit vectors."""
Classes = Annotated[int, Field(ge=1, le=1_000_000_000)]
"""A number of classes; any number above the total means all."""


class LossSettings(BaseModel):
    """Base class of loss settings. ``weight`` scales the loss in the sum.

    Class variables state the requirements of the loss: of the batch (``needs``), and whether it
    uses labels, teacher embeddings, class weights or the teacher's class centres.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    needs: ClassVar[Needs] = Needs()
    needs_labels: ClassVar[bool] = True
    leaves_out_mixed: ClassVar[bool] = False
    """Whether it honours ``LossInputs.label_weights``; a loss without labels does not need to."""
    needs_teacher: ClassVar[bool] = False
    needs_centres: ClassVar[bool] = False
    needs_teacher_centres: ClassVar[bool] = False

    later: ClassVar[frozenset[str]] = frozenset()
    """Settings added after steps were first recorded; left out of a step's identity at defaults"""

    weight: Weight = 1.0

    @property
    def seen(self) -> dict[str, Any]:
        """The settings that count towards a step's identity."""
        defaults = {name: type(self).model_fields[name].default for name in self.later}
        usual = {name for name, value in defaults.items() if getattr(self, name) == value}
        return self.model_dump(exclude=usual)

    @property
    def centres_per_identity(self) -> int:
        """The number of class weights per identity, for a loss that needs them."""
        return 1


class ComparisonSettings(LossSettings):
    """Settings of losses that compare embeddings with the teacher's vectors, of equal width.

    With ``project`` the widths may differ: a linear map without bias takes the embeddings to the
    teacher's width. The map is trained with the losses and is not part of the network.
    """

    needs_teacher: ClassVar[bool] = True

    project: bool = False


class HeadSettings(LossSettings):
    """``scale`` multiplies the cosines; ``class_balance`` is the beta of ``balanced_weights``.

    ``filter_above`` is the cosine beyond which another identity counts as a label error instead of
    a hard negative: see ``filtered_negatives``. insightface uses 0.4 for noisy labels.

    Heads see cosines only, so their class weights may be sharded over ranks.
    """

    leaves_out_mixed: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs(identities=2)
    needs_centres: ClassVar[bool] = True

    scale: Scale = 64.0
    class_balance: float | None = Field(default=None, gt=0, lt=1)
    filter_above: float | None = Field(default=None, gt=0, lt=1)

    later: ClassVar[frozenset[str]] = frozenset({"filter_above"})


_SETTINGS: dict[str, type[LossSettings]] = {}
AnySettings = TypeVar("AnySettings", bound=LossSettings)


def named(*names: str) -> Callable[[type[AnySettings]], type[AnySettings]]:
    """Register the settings of a loss under its names in specs."""

    def enter(settings: type[AnySettings]) -> type[AnySettings]:
        for name in names:
            check_unused("settings of the loss", name, _SETTINGS.get(name), settings)
            _SETTINGS[name] = settings
        return settings

    return enter


def settings_of(name: str) -> type[LossSettings] | None:
    """The settings of a loss, or None. Imports torch for a loss that is not built in."""
    if name not in _SETTINGS:
        import_all()
    return _SETTINGS.get(name)


def import_all() -> None:
    """Import every file of this package, and torch with it, so that all losses are registered."""
    import_files("distill.losses")


def known_settings(name: str) -> type[LossSettings]:
    """The settings of a loss in ``names()``; ``KeyError`` if it is none."""
    return _SETTINGS[name]


def enter_settings(name: str, settings: type[AnySettings]) -> type[AnySettings]:
    """Register the settings of a loss, unless they are built in and already known."""
    return settings if _SETTINGS.get(name) is settings else named(name)(settings)


def names() -> list[str]:
    """The names of all losses with known settings."""
    return sorted(_SETTINGS)


def _check_margins(smallest: float, largest: float) -> None:
    if smallest > largest:
        raise SpecError(
            ("smallest_margin",),
            f"{smallest} is above largest_margin = {largest}; give them in order",
        )


named("softmax")(HeadSettings)


@named("arcface")
class ArcFaceSettings(HeadSettings):
    """``margin`` is in radians."""

    margin: Radians = 0.5


@named("cosface")
class CosFaceSettings(HeadSettings):
    """The margin is 0.35 in the paper and 0.40 in insightface's arcface_torch."""

    margin: CosineMargin = 0.35


@named("sphereface")
class SphereFaceSettings(HeadSettings):
    """``margin`` is a factor: 4 in the paper; 1.35 in insightface, which trains from scratch."""

    margin: float = Field(default=1.35, ge=1, le=4)


@named("li_arcface")
class LiArcFaceSettings(HeadSettings):
    """``margin`` is in radians; the papers use 0.4 to 0.45."""

    margin: Radians = 0.45


@named("combined")
class CombinedSettings(HeadSettings):
    """``m1`` multiplies the angle, ``m2`` (radians) is added, ``m3`` is subtracted from the cosine.

    The defaults are those of insightface's ``combined``.
    """

    m1: float = Field(default=1.0, ge=1, le=4)
    m2: Radians = 0.3
    m3: CosineMargin = 0.2


@named("sv")
class SVSettings(CombinedSettings):
    """``t`` is the factor that emphasises hard negatives; 1 has no effect."""

    t: float = Field(default=1.2, ge=1, le=100)


@named("subcentre")
class SubcentreSettings(ArcFaceSettings):
    """``subcentres`` is the paper's K, best at 3 there; ``margin`` is in radians."""

    subcentres: int = Field(default=3, ge=2, le=16)

    @property
    def centres_per_identity(self) -> int:
        return self.subcentres


@named("adaface")
class AdaFaceSettings(HeadSettings):
    """The paper's m, h and alpha (``momentum``), the weight of a batch in the norm statistics."""

    margin: CosineMargin = 0.4
    concentration: float = Field(default=0.333, gt=0, le=100)
    momentum: float = Field(default=0.01, gt=0, le=1)


@named("curricularface")
class CurricularFaceSettings(ArcFaceSettings):
    """``margin`` is in radians; ``momentum`` is the weight of a batch in the moving average."""

    momentum: float = Field(default=0.01, gt=0, le=1)


@named("center")
class CenterSettings(LossSettings):
    """``weight`` is the paper's lambda, 0.003; ``rate`` its alpha, the step size of the centres."""

    leaves_out_mixed: ClassVar[bool] = True

    weight: Weight = 0.003
    rate: float = Field(default=0.5, gt=0, le=1)


@named("intra")
class IntraSettings(LossSettings):
    """Has no settings besides its weight."""

    leaves_out_mixed: ClassVar[bool] = True
    needs_centres: ClassVar[bool] = True


@named("inter", "regularface")
class InterSettings(LossSettings):
    """``classes`` are sampled per step and compared with all."""

    needs_labels: ClassVar[bool] = False
    needs: ClassVar[Needs] = Needs(identities=2)
    needs_centres: ClassVar[bool] = True

    classes: Classes = 256


@named("uniformface")
class UniformFaceSettings(LossSettings):
    """``classes`` are sampled per step."""

    needs_labels: ClassVar[bool] = False
    needs: ClassVar[Needs] = Needs(identities=2)
    needs_centres: ClassVar[bool] = True

    classes: Classes = Field(default=1024, ge=2)


@named("triplet")
class TripletSettings(LossSettings):
    """``margin`` is in squared distances of unit vectors, which are ``2 - 2 cos``.

    ``mining`` selects, for every positive pair, a random semi-hard negative ("semi-hard") or the
    nearest one ("hardest-semi-hard"); or for every image its hardest positive and negative
    ("batch-hard").
    """

    leaves_out_mixed: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs(identities=2, positives=True, negatives=True)

    mining: Literal["semi-hard", "hardest-semi-hard", "batch-hard"] = "semi-hard"
    margin: SquaredDistance = Field(default=0.2, gt=0)


@named("centre_triplet")
class CentreTripletSettings(LossSettings):
    """See ``TripletSettings``."""

    leaves_out_mixed: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs(identities=2, positives=True, absent=True)
    needs_centres: ClassVar[bool] = True

    mining: Literal["semi-hard", "hardest-semi-hard"] = "semi-hard"
    margin: SquaredDistance = Field(default=0.2, gt=0)


@named("angular")
class AngularSettings(ComparisonSettings):
    """The paper's weight is 7 and applies to the sum over dimensions."""

    needs_labels: ClassVar[bool] = False

    weight: Weight = 7.0


@named("angular_squared")
class AngularSquaredSettings(ComparisonSettings):
    """The weight of ``angular``; the paper states none for this form."""

    needs_labels: ClassVar[bool] = False

    weight: Weight = 7.0


@named("adadistill")
class AdaDistillSettings(ComparisonSettings):
    """``scale`` and ``margin`` (radians) as in ArcFace; 0.45 comes from the authors' code."""

    leaves_out_mixed: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs(identities=2)

    scale: Scale = 64.0
    margin: Radians = 0.45


@named("margin_distillation")
class MarginDistillationSettings(ComparisonSettings):
    """``scale`` multiplies the cosines; the margins are in radians."""

    leaves_out_mixed: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs(identities=2)
    needs_teacher_centres: ClassVar[bool] = True

    scale: Scale = 64.0
    smallest_margin: Radians = 0.2
    largest_margin: Radians = 0.5

    @model_validator(mode="after")
    def _check_range(self) -> "MarginDistillationSettings":
        _check_margins(self.smallest_margin, self.largest_margin)
        return self


@named("teacher_logits")
class TeacherLogitsSettings(ComparisonSettings):
    """``scale`` multiplies the cosines of student and teacher, ``temperature`` divides both."""

    needs_labels: ClassVar[bool] = False
    needs: ClassVar[Needs] = Needs(identities=2)
    needs_teacher_centres: ClassVar[bool] = True

    scale: Scale = 64.0
    temperature: float = Field(default=4.0, gt=0, le=1e4)


@named("pseudo_classes")
class PseudoClassesSettings(ComparisonSettings):
    """``queue`` is the number of recent images used as classes; ``temperature`` divides cosines.

    Source of the defaults: LightlyTrain, for data sets of 10,000 to 20,000 images.
    """

    needs_labels: ClassVar[bool] = False

    queue: int = Field(default=4096, ge=2, le=1 << 20)
    temperature: float = Field(default=0.07, gt=0, le=1e4)


@named("relational_distance")
class RelationalDistanceSettings(LossSettings):
    """The paper's weight is 1 with a metric loss and 25 with a softmax loss."""

    needs_labels: ClassVar[bool] = False
    needs: ClassVar[Needs] = Needs(images=3)
    needs_teacher: ClassVar[bool] = True


@named("relational_angle")
class RelationalAngleSettings(LossSettings):
    """The paper's weight is 2 with a metric loss and 50 with a softmax loss."""

    needs_labels: ClassVar[bool] = False
    needs: ClassVar[Needs] = Needs(images=3)
    needs_teacher: ClassVar[bool] = True

    weight: Weight = 2.0


@named("triplet_distillation")
class TripletDistillationSettings(LossSettings):
    """The range of the margins, in squared distance.

    Source of the defaults: the re-implementation by the authors of MarginDistillation.
    """

    leaves_out_mixed: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs(identities=2, positives=True, negatives=True)
    needs_teacher: ClassVar[bool] = True

    smallest_margin: SquaredDistance = 0.2
    largest_margin: SquaredDistance = 0.5

    @model_validator(mode="after")
    def _check_range(self) -> "TripletDistillationSettings":
        _check_margins(self.smallest_margin, self.largest_margin)
        return self

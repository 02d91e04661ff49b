"""The settings of every loss, and what it needs; without torch, so that a spec is checked at once.

``ArcFaceSettings`` is of the loss ``ArcFace``. Those of a loss that is added may stand in its own
file, with torch: then a spec that names it is checked as well, but not at once.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from typing_extensions import TypedDict

from curation.errors import UserError
from curation.registry import check_unused
from curation.suggestions import hint, listed
from distill.losses.needs import Needs
from distill.spec_errors import SpecError

Weight = Annotated[float, Field(gt=0, le=1e6)]
Scale = Annotated[float, Field(gt=0, le=1e4)]
"""Of cosines, before a softmax; beyond it, float32 tells no cosines apart."""
Radians = Annotated[float, Field(ge=0, lt=math.pi / 2, description="radians")]
CosineMargin = Annotated[float, Field(ge=0, lt=1)]
SquaredDistance = Annotated[float, Field(ge=0, le=4, description="squared distance")]
"""Of unit vectors."""
Classes = Annotated[int, Field(ge=1, le=1_000_000_000)]
"""More than there are stand for all."""


class LossSettings(BaseModel):
    """The settings of every loss; each adds its own. ``weight`` scales it in the sum.

    The class says what the loss needs: in a batch (``needs``), and whether the labels, the
    teacher's embeddings, the class weights, or the teacher's class weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    needs: ClassVar[Needs] = Needs()
    needs_labels: ClassVar[bool] = True
    leaves_out_mixed: ClassVar[bool] = False
    """Whether it honours ``LossInputs.label_weights``; those that need no labels need not."""
    needs_teacher: ClassVar[bool] = False
    needs_centres: ClassVar[bool] = False
    needs_teacher_centres: ClassVar[bool] = False

    later: ClassVar[frozenset[str]] = frozenset()
    """Settings that steps done before they came do not have; none is one while it is the default"""

    weight: Weight = 1.0

    @property
    def seen(self) -> dict[str, Any]:
        """The settings that the identity of a step has."""
        defaults = {name: type(self).model_fields[name].default for name in self.later}
        usual = {name for name, value in defaults.items() if getattr(self, name) == value}
        return self.model_dump(exclude=usual)

    @property
    def centres_per_identity(self) -> int:
        """How many centres of each identity the loss asks for, where it needs centres."""
        return 1


class ComparisonSettings(LossSettings):
    """Of losses that compare embeddings with vectors of the teacher, so that widths must be equal.

    With ``project`` they need not be: the loss is given the embeddings through a linear map without
    bias to the teacher's width, which is learnt with the losses and is not part of the network.
    """

    needs_teacher: ClassVar[bool] = True

    project: bool = False


class HeadSettings(LossSettings):
    """``scale`` multiplies the cosines; ``class_balance`` is the beta of ``balanced_weights``.

    ``filter_above`` is the cosine beyond which another identity is taken for a label error, and
    not for a hard negative: see ``filtered_negatives``. insightface takes 0.4 where labels are bad.

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
    """Enter the settings of a loss, by the names that a spec calls it."""

    def enter(settings: type[AnySettings]) -> type[AnySettings]:
        for name in names:
            check_unused("settings of the loss", name, _SETTINGS.get(name), settings)
            _SETTINGS[name] = settings
        return settings

    return enter


def settings_of(name: str) -> type[LossSettings] | None:
    """The settings of a loss, or None. One with a file of its own beside ours brings torch."""
    if name not in _SETTINGS:
        from distill.losses.loss import import_all

        import_all()
    return _SETTINGS.get(name)


def known_settings(name: str) -> type[LossSettings]:
    """The settings of a loss that is known."""
    return _SETTINGS[name]


def enter_settings(name: str, settings: type[AnySettings]) -> type[AnySettings]:
    """Enter those of a loss that is registered: they may be ours, which are there already."""
    return settings if _SETTINGS.get(name) is settings else named(name)(settings)


def checked_settings(
    kind: type[AnySettings], settings: LossSettings | None, given: Mapping[str, Any], what: str
) -> AnySettings:
    """``settings``, or those ``given`` by name, as what a loss takes; ``UserError`` else."""
    if settings is not None:
        if not isinstance(settings, kind) or given:
            wrong = f"{', '.join(given)} beside settings" if given else type(settings).__name__
            raise UserError(f"{what} takes {kind.__name__}, or its settings by name; not {wrong}")
        return settings
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        raise UserError(f"{what}: {_fault(error, kind)}") from None


def names() -> list[str]:
    """Of all losses whose settings are known."""
    return sorted(_SETTINGS)


def _typed(given: Any) -> Any:
    """``{name: {setting: value}}`` as settings; faults are placed by the name and the setting."""
    if not isinstance(given, Mapping) or all(isinstance(e, LossSettings) for e in given.values()):
        if given == {}:
            raise ValueError(f"at least one loss is needed{listed(names())}")
        return given
    classes = {name: settings_of(name) for name in given}
    if unknown := [name for name, settings in classes.items() if settings is None]:
        raise ValidationError.from_exception_data("Losses", [_unknown(name) for name in unknown])
    typed: Any = TypedDict("Losses", classes)  # type: ignore[misc]
    return TypeAdapter(typed).validate_python(dict(given))


def _unknown(name: str) -> InitErrorDetails:
    message = f"no such loss{hint(name, names())}"
    return InitErrorDetails(
        type=PydanticCustomError("unknown_loss", message), loc=(name,), input=None
    )


Losses = Annotated[dict[str, SerializeAsAny[LossSettings]], BeforeValidator(_typed)]
"""In a job spec: the losses of a stage with their settings, by name."""


def parse_losses(given: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, LossSettings]:
    """``{name: {setting: value}}`` as settings; ``UserError`` names the key."""
    try:
        parsed: dict[str, LossSettings] = TypeAdapter(Losses).validate_python(given)
    except ValidationError as error:
        raise UserError(_refusal(where, error)) from None
    return parsed


def _refusal(where: str, error: ValidationError) -> str:
    """What is wrong with the settings of losses."""
    first = error.errors()[0]
    key = ".".join([where, *map(str, first["loc"])])
    message = first["msg"].removeprefix("Value error, ")
    if len(first["loc"]) < 2:
        return f"{key}: {message}"
    name, setting = str(first["loc"][0]), str(first["loc"][-1])
    settings = _SETTINGS[name].model_fields
    if first["type"] == "extra_forbidden":
        return f"{key}: {name} has no such setting{hint(setting, settings)}"
    return f"{key}: {message} (settings are {', '.join(settings)})"


def _fault(error: ValidationError, kind: type[LossSettings]) -> str:
    """What is wrong with settings that were given by name."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    argument = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return f"no such argument {argument!r}{hint(argument, kind.model_fields)}"
    return f"{argument} = {first['input']!r:.80}: {message}"


def check_shardable(losses: Mapping[str, LossSettings]) -> None:
    """Raise ``SpecError`` where a loss needs class weights that are not on its rank."""
    for name, settings in losses.items():
        if settings.needs_centres and not isinstance(settings, HeadSettings):
            raise SpecError(
                (name,),
                f"needs the class centres of all identities on every rank, but "
                f"centres.sharded is true; allowed with it: {', '.join(_heads())} and losses "
                "without class centres; or set sharded = false",
            )


def _heads() -> Iterable[str]:
    return [name for name in names() if issubclass(_SETTINGS[name], HeadSettings)]


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
    """The paper's margin is 0.35, that of insightface's arcface_torch 0.40."""

    margin: CosineMargin = 0.35


@named("sphereface")
class SphereFaceSettings(HeadSettings):
    """``margin`` is the factor: 4 in the paper, 1.35 in insightface, which trains without help."""

    margin: float = Field(default=1.35, ge=1, le=4)


@named("li_arcface")
class LiArcFaceSettings(HeadSettings):
    """``margin`` is in radians; the papers use 0.4 to 0.45."""

    margin: Radians = 0.45


@named("combined")
class CombinedSettings(HeadSettings):
    """``m1`` multiplies the angle, ``m2`` (radians) adds to it, ``m3`` is off its cosine.

    The values are insightface's ``combined``.
    """

    m1: float = Field(default=1.0, ge=1, le=4)
    m2: Radians = 0.3
    m3: CosineMargin = 0.2


@named("sv")
class SVSettings(CombinedSettings):
    """``t`` is how much harder the hard identities are made; with 1 nothing is."""

    t: float = Field(default=1.2, ge=1, le=100)


@named("subcentre")
class SubcentreSettings(ArcFaceSettings):
    """``subcentres`` is the K of the paper, which finds 3 best; ``margin`` is in radians."""

    subcentres: int = Field(default=3, ge=2, le=16)

    @property
    def centres_per_identity(self) -> int:
        return self.subcentres


@named("adaface")
class AdaFaceSettings(HeadSettings):
    """The paper's m, h and alpha; alpha is how much a batch moves the statistics of the norms."""

    margin: CosineMargin = 0.4
    concentration: float = Field(default=0.333, gt=0, le=100)
    momentum: float = Field(default=0.01, gt=0, le=1)


@named("curricularface")
class CurricularFaceSettings(ArcFaceSettings):
    """``margin`` is in radians; ``momentum`` is how much a batch moves the curriculum."""

    momentum: float = Field(default=0.01, gt=0, le=1)


@named("center")
class CenterSettings(LossSettings):
    """The paper's lambda is 0.003; ``rate`` is its alpha, by which centres follow a batch."""

    leaves_out_mixed: ClassVar[bool] = True

    weight: Weight = 0.003
    rate: float = Field(default=0.5, gt=0, le=1)


@named("intra")
class IntraSettings(LossSettings):
    """Nothing but its weight."""

    leaves_out_mixed: ClassVar[bool] = True
    needs_centres: ClassVar[bool] = True


@named("inter", "regularface")
class InterSettings(LossSettings):
    """``classes`` are sampled at each step and compared with all; as many as there are take all."""

    needs_labels: ClassVar[bool] = False
    needs: ClassVar[Needs] = Needs(identities=2)
    needs_centres: ClassVar[bool] = True

    classes: Classes = 256


@named("uniformface")
class UniformFaceSettings(LossSettings):
    """``classes`` are sampled at each step; as many as there are take all."""

    needs_labels: ClassVar[bool] = False
    needs: ClassVar[Needs] = Needs(identities=2)
    needs_centres: ClassVar[bool] = True

    classes: Classes = Field(default=1024, ge=2)


@named("triplet")
class TripletSettings(LossSettings):
    """``margin`` is in squared distances of unit vectors, which are ``2 - 2 cos``.

    ``mining``: for every pair of one identity a random semi-hard negative, or the nearest
    semi-hard one; or for every image its hardest positive and negative ("batch-hard").
    """

    leaves_out_mixed: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs(identities=2, positives=True, negatives=True)

    mining: Literal["semi-hard", "hardest-semi-hard", "batch-hard"] = "semi-hard"
    margin: SquaredDistance = Field(default=0.2, gt=0)


@named("centre_triplet")
class CentreTripletSettings(LossSettings):
    """As ``TripletSettings``."""

    leaves_out_mixed: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs(identities=2, positives=True, absent=True)
    needs_centres: ClassVar[bool] = True

    mining: Literal["semi-hard", "hardest-semi-hard"] = "semi-hard"
    margin: SquaredDistance = Field(default=0.2, gt=0)


@named("angular")
class AngularSettings(ComparisonSettings):
    """The paper's weight is 7, meant for the sum over dimensions."""

    needs_labels: ClassVar[bool] = False

    weight: Weight = 7.0


@named("angular_squared")
class AngularSquaredSettings(ComparisonSettings):
    """The weight of ``angular``, though the paper gives none for this form."""

    needs_labels: ClassVar[bool] = False

    weight: Weight = 7.0


@named("adadistill")
class AdaDistillSettings(ComparisonSettings):
    """``scale`` and ``margin`` (in radians) are those of ArcFace; 0.45 is of the authors' code."""

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
    def _a_range(self) -> "MarginDistillationSettings":
        _check_margins(self.smallest_margin, self.largest_margin)
        return self


@named("teacher_logits")
class TeacherLogitsSettings(ComparisonSettings):
    """``scale`` multiplies the cosines, and ``temperature`` divides them again on both sides."""

    needs_labels: ClassVar[bool] = False
    needs: ClassVar[Needs] = Needs(identities=2)
    needs_teacher_centres: ClassVar[bool] = True

    scale: Scale = 64.0
    temperature: float = Field(default=4.0, gt=0, le=1e4)


@named("pseudo_classes")
class PseudoClassesSettings(ComparisonSettings):
    """``queue`` is how many of the last pictures are classes, ``temperature`` divides cosines.

    Source of the numbers: LightlyTrain, for data sets of 10,000 to 20,000 images.
    """

    needs_labels: ClassVar[bool] = False

    queue: int = Field(default=4096, ge=2, le=1 << 20)
    temperature: float = Field(default=0.07, gt=0, le=1e4)


@named("relational_distance")
class RelationalDistanceSettings(LossSettings):
    """The paper's weight is 1 beside a metric loss, and 25 beside a softmax loss."""

    needs_labels: ClassVar[bool] = False
    needs: ClassVar[Needs] = Needs(images=3)
    needs_teacher: ClassVar[bool] = True


@named("relational_angle")
class RelationalAngleSettings(LossSettings):
    """The paper's weight is 2 beside a metric loss, and 50 beside a softmax loss."""

    needs_labels: ClassVar[bool] = False
    needs: ClassVar[Needs] = Needs(images=3)
    needs_teacher: ClassVar[bool] = True

    weight: Weight = 2.0


@named("triplet_distillation")
class TripletDistillationSettings(LossSettings):
    """The range that margins are mapped to, in squared distance.

    Source of the numbers: the re-implementation by the authors of MarginDistillation.
    """

    leaves_out_mixed: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs(identities=2, positives=True, negatives=True)
    needs_teacher: ClassVar[bool] = True

    smallest_margin: SquaredDistance = 0.2
    largest_margin: SquaredDistance = 0.5

    @model_validator(mode="after")
    def _a_range(self) -> "TripletDistillationSettings":
        _check_margins(self.smallest_margin, self.largest_margin)
        return self

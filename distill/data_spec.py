"""The tables of a spec that describe images: the sets for training and evaluation."""

from typing import Annotated, Any

from pydantic import Field, PlainSerializer, PlainValidator, TypeAdapter, model_validator

from curation.toml_positions import Location
from distill.spec_errors import SpecError
from distill.training.config import Share, Strict

SHARES_OFF = 1e-3
"""Tolerance for the sum of shares: three thirds are written as 0.333"""

SET_PATTERN = r"^[^/]+/[^/]+$"
SetName = Annotated[str, Field(pattern=SET_PATTERN)]
"""Name of a store or view of the workspace"""


class TrainingSet(Strict):
    """One of several image sets to train on together.

    ``share`` is its share of every batch; by default proportional to its size. With ``labels``
    false its labels are ignored, and only losses without labels learn from it.
    """

    set: SetName
    share: Share | None = None
    labels: bool = True


_SETS: TypeAdapter[list[TrainingSet]] = TypeAdapter(
    Annotated[list[TrainingSet], Field(min_length=1, max_length=100)]
)
_SET_NAME: TypeAdapter[str] = TypeAdapter(SetName, config=Strict.model_config)


def _name_or_sets(given: Any) -> str | list[TrainingSet]:
    """Validated by hand, for a single message if it is neither a name nor a list."""
    if isinstance(given, list):
        return _SETS.validate_python(given)
    if isinstance(given, str):
        return _SET_NAME.validate_python(given)
    raise ValueError(
        'must name a set of images, such as "ms1m/clean", or be a list of several, such as '
        '[{ set = "ms1m/clean" }, { set = "street/all", labels = false }]'
    )


def _plain(train: str | list[TrainingSet]) -> str | list[dict[str, Any]]:
    return train if isinstance(train, str) else [each.model_dump() for each in train]


class DataSpec(Strict):
    """``train`` is a store or view of the workspace, or a list of several; ``evaluate`` names sets
    of pairs or images.

    A bare name in ``evaluate`` is in the folder of the first set of ``train``; ``DATASET/NAME`` is
    elsewhere. ``LIST:SET`` is a list of pairs (.txt, .csv, .tsv) of the images of a store or view,
    both named the same way.
    """

    train: Annotated[
        str | list[TrainingSet],
        PlainValidator(_name_or_sets, json_schema_input_type=SetName | list[TrainingSet]),
        PlainSerializer(_plain),
    ]
    evaluate: list[str] = Field(default=[])

    @property
    def sets(self) -> list[TrainingSet]:
        """The training sets, one by one."""
        return self.train if isinstance(self.train, list) else [TrainingSet(set=self.train)]

    @property
    def placed(self) -> dict[Location, TrainingSet]:
        """``sets``, by their location below ``data``."""
        if isinstance(self.train, list):
            return {("train", index, "set"): each for index, each in enumerate(self.train)}
        return {("train",): self.sets[0]}

    @property
    def name(self) -> str:
        """The name of all training sets together."""
        return " + ".join(each.set for each in self.sets)

    @model_validator(mode="after")
    def _check_evaluate(self) -> "DataSpec":
        seen = set()
        for index, name in enumerate(self.evaluate):
            if name in seen:
                raise SpecError(("evaluate", index), f"{name!r} occurs twice")
            seen.add(name)
        return self

    @model_validator(mode="after")
    def _check_sets(self) -> "DataSpec":
        names = [each.set for each in self.sets]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise SpecError(("train",), f"{twice!r} is listed twice; list each set once")
        shares = [each.share for each in self.sets if each.share is not None]
        if 0 < len(shares) < len(names):
            raise SpecError(
                ("train",), "give every set a share, or none (shares then follow the sizes)"
            )
        if shares and abs(sum(shares) - 1) > SHARES_OFF:
            raise SpecError(
                ("train",),
                f"the shares {' + '.join(f'{share:g}' for share in shares)} are "
                f"{sum(shares):g} together; they must add up to 1",
            )
        return self

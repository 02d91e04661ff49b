"""Settings of augmented views, ``[augment]`` of a job spec. Does not import torch or OpenCV."""

import math
from typing import Annotated, Literal

from pydantic import Field, PlainValidator, model_validator

from curation.wording import counted
from distill.spec_errors import SpecError
from teachers.augment.strengths import Share, Strengths

PLAIN_VIEWS = 2
"""The image and its mirror image, for which the teacher's embeddings always exist."""
LEAST_COSINE = 0.4
"""Chosen from SFace on real faces: docs/training.md, "Augmented views"."""
PLAIN_SHARE_OF_FRESH = 0.125
"""The share at 16 views"""

MOST_PLAIN = 0.99
"""More would be almost no augmentation, in cycles that are too long to be permuted."""
MOST_VIEWS = 1024
"""Each view has its own folder in the cache."""


def _number_of_views(given: object) -> int | Literal["fresh"]:
    """Validated by hand, for a single message about numbers and words."""
    if given == "fresh":
        return "fresh"
    if isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= MOST_VIEWS:
        return given
    raise ValueError(
        f'{given!r} is not a number of views; allowed: 1, 3 to {MOST_VIEWS}, or "fresh"'
    )


_NumberOfViews = Annotated[int, Field(ge=1, le=MOST_VIEWS)] | Literal["fresh"]
Views = Annotated[
    _NumberOfViews, PlainValidator(_number_of_views, json_schema_input_type=_NumberOfViews)
]


class AugmentSettings(Strengths):
    """How many views of each image a student sees, and how far they may differ from it.

    ``views`` 1 is the image, mirrored half the time. From 3 on, two views are the image and its
    mirror image and the others are augmented. All are shown equally often, unless ``plain`` sets
    the share of the plain ones. With "fresh", no augmented view is shown twice. The plain image
    replaces any view whose teacher embedding has a cosine below ``least_cosine`` to the plain one.

    With ``teacher_sees`` plain, the teacher embeds the image or its mirror image, whichever view
    the student sees, so it runs no more often than without augmentation.
    """

    views: Views = 1
    plain: Share | None = Field(default=None, le=MOST_PLAIN)
    teacher_sees: Literal["view", "plain"] = "view"
    least_cosine: float = Field(default=LEAST_COSINE, ge=-1, lt=1)

    @model_validator(mode="after")
    def _check_combinations(self) -> "AugmentSettings":
        given = sorted(self.model_fields_set - {"views"})
        if self.views == 1 and given:
            raise SpecError(
                (given[0],), "needs augmented views: views = 16, say, or any number from 3"
            )
        if self.views == 2:
            raise SpecError(
                ("views",),
                "2 would be the image and its mirror image, which is views = 1; "
                "allowed: 1, and 3 or more",
            )
        if self.teacher_sees == "plain":
            self._check_plain_answers()
        if self.plain and self.augmented is not None and not self.plain_slots:
            raise SpecError(("plain",), self._why_none_plain())
        if self.augments and self.change_nothing:
            raise SpecError(("views",), "all shares are 0, so the views would equal the image")
        return self

    def _check_plain_answers(self) -> None:
        if self.mix:
            raise SpecError(
                ("mix",),
                'mixed images need teacher_sees = "view", because no plain image shows two people',
            )
        if "least_cosine" in self.model_fields_set:
            raise SpecError(
                ("least_cosine",),
                "applies to the teacher's embeddings of views, and "
                'teacher_sees = "plain" has none; leave it out',
            )

    def _why_none_plain(self) -> str:
        assert self.plain is not None
        assert self.augmented is not None
        share, augmented = self.plain, self.augmented
        enough = math.floor(0.5 * (1 - share) / share) + 1
        return (
            f"{share:g} of views = {self.views} is less than one plain view beside "
            f"{counted(augmented, 'augmented one')}; allowed: 0 for none, "
            f"{1 / (1 + augmented):.3g} or more, or views = {enough + PLAIN_VIEWS} or more"
        )

    @property
    def plain_slots(self) -> int:
        """The number of times that an image is shown plain while it shows each of its ``augmented``
        views once."""
        assert self.augmented is not None
        if self.plain is None:
            return PLAIN_VIEWS
        return round(self.plain * self.augmented / (1 - self.plain))

    @property
    def answered(self) -> int | None:
        """The number of augmented views per image that the teacher embeds; None if unlimited."""
        return 0 if self.teacher_sees == "plain" else self.augmented

    @property
    def augments(self) -> bool:
        """Whether any view is more than the mirror image."""
        return self.views != 1

    @property
    def augmented(self) -> int | None:
        """The number of augmented views per image; None if unlimited."""
        return None if self.views == "fresh" else max(0, self.views - PLAIN_VIEWS)

    @property
    def strengths(self) -> Strengths:
        """The settings that determine the pixels of a view."""
        return Strengths(**{name: getattr(self, name) for name in Strengths.model_fields})


NO_AUGMENTATION = AugmentSettings()

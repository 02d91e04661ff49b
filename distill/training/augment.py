"""The settings of augmented views, ``[augment]`` of a job spec; without torch and OpenCV."""

from typing import Annotated, Literal

from pydantic import Field, PlainValidator, model_validator

from distill.spec_errors import SpecError
from teachers.augment.strengths import Share, Strengths

PLAIN_VIEWS = 2
"""The picture and its mirror, of which the teacher's answers are there in any case."""
LEAST_COSINE = 0.4
"""Chosen from SFace on real faces: docs/training.md, "Augmented views"."""
PLAIN_SHARE_OF_FRESH = 0.125
"""As of 16 views."""

MOST_VIEWS = 1024
"""Each has a folder of its own in the cache."""


def _number_of_views(given: object) -> int | Literal["fresh"]:
    """One message for a number or a word that is none."""
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
    """How many views of each picture a student sees, and how far they may be from it.

    ``views`` 1 is the picture, mirrored half the time. From 3 on two of them are the picture and
    its mirror, and the others are augmented; each is shown equally often, or the plain ones in the
    share ``plain``. With "fresh" no augmented view is seen twice. The plain picture takes the place
    of views to which the teacher's answer has a cosine below ``least_cosine`` to the plain one.

    ``teacher_sees`` plain: the teacher is asked about the picture itself, or its mirror, whatever
    view of it the student sees, and so no more often than without views.
    """

    views: Views = 1
    plain: Share | None = Field(default=None, lt=1)
    teacher_sees: Literal["view", "plain"] = "view"
    least_cosine: float = Field(default=LEAST_COSINE, ge=-1, lt=1)

    @model_validator(mode="after")
    def _fits_together(self) -> "AugmentSettings":
        said = sorted(self.model_fields_set - {"views"})
        if self.views == 1 and said:
            raise SpecError(
                (said[0],), "needs augmented views: views = 16, say, or any number from 3"
            )
        if self.views == 2:
            raise SpecError(
                ("views",),
                "2 would be the picture and its mirror image, which is views = 1; "
                "allowed: 1, and 3 or more",
            )
        if self.teacher_sees == "plain":
            self._check_plain_answers()
        if self.augments and self.change_nothing:
            raise SpecError(("views",), "all shares are 0, so the views would equal the picture")
        return self

    def _check_plain_answers(self) -> None:
        if self.mix:
            raise SpecError(
                ("mix",),
                'mixed pictures need teacher_sees = "view", as no plain picture shows two people',
            )
        if "least_cosine" in self.model_fields_set:
            raise SpecError(
                ("least_cosine",),
                "applies to the teacher's embeddings of views, and "
                'teacher_sees = "plain" has none; leave it out',
            )

    @property
    def answered(self) -> int | None:
        """How many augmented views of each image the teacher is asked about; None without limit."""
        return 0 if self.teacher_sees == "plain" else self.augmented

    @property
    def augments(self) -> bool:
        """Whether any view is more than the mirror."""
        return self.views != 1

    @property
    def augmented(self) -> int | None:
        """How many augmented views of each image there are; None without limit."""
        return None if self.views == "fresh" else max(0, self.views - PLAIN_VIEWS)

    @property
    def strengths(self) -> Strengths:
        """What the pixels of a view follow from."""
        return Strengths(**{name: getattr(self, name) for name in Strengths.model_fields})


NO_AUGMENTATION = AugmentSettings()

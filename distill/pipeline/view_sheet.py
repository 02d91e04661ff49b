"""The augmented views of some images on one sheet, with the teacher's cosines."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from curation.bad_images import read_pixels
from curation.contact_sheet import contact_sheet
from curation.errors import UserError
from curation.progress import Progress
from curation.views import ImageSet
from curation.wording import counted
from distill.training.answers import cosines
from distill.training.augment import AugmentSettings
from distill.training.views import PLAIN
from teachers.augment.augmentation import Augmentation
from teachers.embedder import Embedder, normalise
from teachers.preprocessing import Preprocessing
from teachers.usable import check_embeddings

MOST_CELLS = 2_000
"""A sheet is several times in memory; a cell at 112x112 has 48 KB."""
_CAPTION = 15
"""Height in pixels"""
_INK, _UNUSED_INK = (20, 20, 20), (200, 30, 30)


@dataclass(frozen=True)
class SheetView:
    """One view of one image; ``number`` PLAIN is the image itself.

    ``cosine`` is between the teacher's embeddings of the view and of the plain image, both mirrored
    or neither; None without a teacher. ``used`` tells whether the student sees the view.
    """

    image: int
    number: int
    mirrored: bool
    mixed: bool
    cosine: float | None
    used: bool


@dataclass(frozen=True)
class ViewSheet:
    """``picture`` uint8 RGB [H, W, 3], and its cells row by row."""

    picture: np.ndarray
    views: list[SheetView]

    def png(self) -> bytes:
        """The sheet as a PNG file."""
        done, encoded = cv2.imencode(".png", cv2.cvtColor(self.picture, cv2.COLOR_RGB2BGR))
        if not done:
            raise RuntimeError("cv2 could not encode the sheet as PNG")
        return encoded.tobytes()


def make_sheet(
    augment: AugmentSettings,
    images: ImageSet,
    student: Preprocessing,
    teacher: Embedder | None,
    chosen: Sequence[int],
    most: int,
    progress: Progress | None = None,
) -> ViewSheet:
    """A row for each of ``chosen`` images: the image and at most ``most`` augmented views.

    Each is shown at the student's input size, and below at the teacher's if it differs. Progress
    counts images. Raises ``UserError`` if there are more than MOST_CELLS cells.
    """
    augmentation = Augmentation(augment.strengths, images)
    count = most if augment.augmented is None else min(most, augment.augmented)
    if (total := len(chosen) * (1 + count)) > MOST_CELLS:
        raise UserError(
            f"{counted(len(chosen), 'image')} with {counted(count, 'view')} each are {total:,} "
            f"cells, and a sheet holds {MOST_CELLS:,}; give fewer images or views"
        )
    numbers = np.arange(count)
    cells: list[np.ndarray] = []
    shown: list[SheetView] = []
    for done, index in enumerate(chosen):
        if progress is not None:
            progress(done, len(chosen))
        row = images.rows[[index]]
        picture = read_pixels(images, index)
        changes = augmentation.changes(np.repeat(row, count), numbers)
        pictures = [picture, *(augmentation.view(picture, change) for change in changes)]
        mirrored = [False, *augmentation.mirrored(row, numbers).tolist()]
        mixed = [False, *augmentation.mixed(row, numbers).tolist()]
        found = None
        if teacher is not None:
            indices = np.full(len(pictures), index)
            raw = teacher.embed(np.stack(pictures))
            views = check_embeddings(raw, images, indices, np.array([PLAIN, *numbers]))
            found = _to_plain(teacher, picture, views, np.array(mirrored))
        for place, view in enumerate(pictures):
            cosine = None if found is None else round(float(found[place]), 4)
            near = cosine is None or cosine >= augment.least_cosine or mixed[place]
            near |= augment.teacher_sees == "plain"  # the teacher's view of it does not matter
            one = SheetView(
                int(index),
                place - 1 if place else PLAIN,
                mirrored[place],
                mixed[place],
                cosine,
                near,
            )
            shown.append(one)
            cells.append(_cell(view, student, teacher, one))
    return ViewSheet(contact_sheet(cells, count + 1, gap=6), shown)


def _to_plain(
    teacher: Embedder, picture: np.ndarray, views: np.ndarray, mirrored: np.ndarray
) -> np.ndarray:
    """Cosines float32 [n] of the embeddings of ``views`` and of ``picture``, mirrored alike."""
    plain = normalise(teacher.embed(np.stack([picture, picture[:, ::-1]])))
    return cosines(normalise(views), plain[mirrored.astype(np.int64)])


def _cell(
    view: np.ndarray, student: Preprocessing, teacher: Embedder | None, one: SheetView
) -> np.ndarray:
    """The views of student and teacher with a caption; all cells of a sheet have one size."""
    shown = [student.resize(view[None])[0]]
    if teacher is not None and teacher.preprocessing.size != student.size:
        shown.append(teacher.preprocessing.resize(view[None])[0])
    width = max(60, *(each.shape[1] for each in shown))
    parts = [_centred(each, width) for each in shown]
    return np.concatenate([*parts, _caption(one, width)])


def _centred(picture: np.ndarray, width: int) -> np.ndarray:
    """Centred on white, ``width`` pixels wide."""
    wide = np.full((picture.shape[0], width, 3), 255, np.uint8)
    left = (width - picture.shape[1]) // 2
    wide[:, left : left + picture.shape[1]] = picture
    return wide


def _caption(one: SheetView, width: int) -> np.ndarray:
    words = ["plain"] if one.number == PLAIN else [f"{one.number}"]
    if one.cosine is not None and one.number != PLAIN:
        words = [f"{one.number}: {one.cosine:.2f}"]
    words += ["mix"] * one.mixed + ["x"] * (not one.used)
    strip = np.full((_CAPTION, width, 3), 255, np.uint8)
    ink = _INK if one.used else _UNUSED_INK
    place = (2, _CAPTION - 4)
    cv2.putText(strip, " ".join(words), place, cv2.FONT_HERSHEY_SIMPLEX, 0.33, ink, 1, cv2.LINE_AA)
    return strip

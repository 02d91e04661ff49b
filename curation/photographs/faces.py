"""Decides which faces of a photograph are kept, and records why others are not."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field

from curation.alignment import ALIGNED_SIZE, ARCFACE_POINTS, align, similarity
from curation.images import encode_jpeg
from curation.quality import sharpness

if TYPE_CHECKING:
    import numpy as np

Which = Literal["largest", "all", "central"]
"""Which of several faces in a photograph are kept"""
Fate = Literal["kept", "small", "turned", "blurred", "cut-off", "not-chosen"]
Coordinate = Annotated[float, Field(ge=-1e6, le=1e6)]

# Eyes, nose and mouth corners of a face that looks straight ahead, in template pixels: the
# template's x and y, made symmetric, and a nose that protrudes by 0.43 of the eye distance.
_DEPTHS = (-15.0, -15.0, 0.0, -14.0, -14.0)
_PITCH_AHEAD = 12.0
"""Pitch in degrees measured from the five points of an average face that looks straight ahead"""
_INNER = (slice(20, 100), slice(20, 92))
"""The part of an aligned face that is inside the photograph for any position of the points"""


class FaceSettings(BaseModel):
    """Which faces are kept; part of a run's identity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    faces: Which = "largest"
    score: float | None = Field(default=None, gt=0, le=1)
    """The detector's minimum score; None for its authors' default"""
    least_size: int = Field(default=56, ge=1, le=10_000)
    """Side of the aligned face in photograph pixels; 56 means upscaling by two"""
    most_turn: float = Field(default=60.0, gt=0, le=90)
    """Degrees of yaw or pitch"""
    least_sharpness: float = Field(default=12.0, ge=0, le=1e6)
    """Sharpness by ``curation.quality`` on the inner part of the aligned face"""
    quality: int = Field(default=95, ge=1, le=100)
    """Quality of the JPEG files, which are stored without chroma subsampling (4:4:4)"""


class JudgedFace(BaseModel):
    """A detected face and its fate."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    fate: Fate
    note: Annotated[str, Field(max_length=200)]
    """Why it was set aside; empty if it was kept"""
    box: tuple[Coordinate, Coordinate, Coordinate, Coordinate]
    """x, y, width, height in pixels of the upright photograph"""
    points: Annotated[tuple[Coordinate, ...], Field(min_length=10, max_length=10)]
    """x and y of left eye, right eye, nose, left and right corner of the mouth"""
    score: float = Field(ge=0, le=1.01)
    size: Coordinate
    """Side of the aligned face in photograph pixels"""
    yaw: float = Field(ge=-180, le=180)
    pitch: float = Field(ge=-180, le=180)
    """Degrees, relative to an average face; individual faces deviate either way"""
    sharpness: float = Field(ge=0, le=1e6)


class FoundFaces(Protocol):
    """The output of a detector: boxes ``[F, 4]``, points ``[F, 5, 2]``, scores ``[F]``."""

    @property
    def boxes(self) -> "np.ndarray": ...
    @property
    def points(self) -> "np.ndarray": ...
    @property
    def scores(self) -> "np.ndarray": ...


Refine = Callable[["np.ndarray", "np.ndarray", "np.ndarray"], "np.ndarray"]
"""Refines the points ``[5, 2]`` of a face, given the photograph, the face's box and its points"""
_MOST_REFINED = 64


class CutFace(NamedTuple):
    """A face and its JPEG file; empty if the face was not chosen."""

    face: JudgedFace
    jpeg: bytes


def cut_faces(
    pixels: "np.ndarray", found: FoundFaces, settings: FaceSettings, refine: Refine | None = None
) -> list[CutFace]:
    """The faces of a photograph uint8 RGB ``[H, W, 3]``, the largest first, cut out and assessed.

    Faces are chosen before they are assessed: if the largest face is blurred, the next one is not
    the subject of the photograph. ``refine`` is applied to the points of the chosen faces, in a
    crowd only to the largest.
    """
    import numpy as np

    order = np.argsort(-found.boxes[:, 2] * found.boxes[:, 3], kind="stable")
    chosen = _chosen(pixels.shape[:2], found.boxes[order], settings.faces)
    cut = []
    for place, i in enumerate(order.tolist()):
        points = found.points[i].astype(np.float64)
        if refine is not None and place in chosen and place < _MOST_REFINED:
            points = refine(pixels, found.boxes[i], points)
        score = float(found.scores[i])
        cut.append(_cut(pixels, found.boxes[i], points, score, settings, place in chosen))
    return cut


def _chosen(size: tuple[int, ...], boxes: "np.ndarray", which: Which) -> set[int]:
    """Indices of the chosen boxes ``[F, 4]``, the largest first."""
    import numpy as np

    if which == "all" or not len(boxes):
        return set(range(len(boxes)))
    if which == "largest":
        return {0}
    off = boxes[:, :2] + boxes[:, 2:] / 2 - np.array([size[1], size[0]]) / 2
    return {int((off**2).sum(axis=1).argmin())}


def _cut(
    pixels: "np.ndarray",
    box: "np.ndarray",
    points: "np.ndarray",
    score: float,
    settings: FaceSettings,
    chosen: bool,
) -> CutFace:
    import numpy as np

    try:
        matrix = similarity(points, np.array(ARCFACE_POINTS))
        size = round(float(ALIGNED_SIZE[0] / max(np.hypot(matrix[0, 0], matrix[1, 0]), 1e-6)), 1)
        aligned = align(pixels, points)
    except ValueError:
        size, aligned = 0.0, np.zeros((*ALIGNED_SIZE, 3), np.uint8)
    yaw, pitch = pose(points)
    sharp = sharpness(aligned[_INNER])
    fate, note = ("not-chosen", f"not the {settings.faces} face of its photograph")
    if chosen:
        fate, note = _judge(points, pixels.shape[:2], size, yaw, pitch, sharp, settings)
    face = JudgedFace(
        fate=fate,  # type: ignore[arg-type]
        note=note,
        box=tuple(_rounded(box)),  # type: ignore[arg-type]
        points=tuple(_rounded(points.ravel())),
        score=round(score, 4),
        size=size,
        yaw=round(yaw, 1),
        pitch=round(pitch, 1),
        sharpness=round(sharp, 1),
    )
    return CutFace(
        face, encode_jpeg(aligned, settings.quality, full_colour=True) if chosen else b""
    )


def _judge(
    points: "np.ndarray",
    photograph: tuple[int, ...],
    size: float,
    yaw: float,
    pitch: float,
    sharp: float,
    settings: FaceSettings,
) -> tuple[str, str]:
    """The fate of a chosen face, and the reason."""
    turn = max(abs(yaw), abs(pitch))
    outside = (points < 0).any() or (points > (photograph[1] - 1, photograph[0] - 1)).any()
    reasons: list[tuple[bool, str, Callable[[], str]]] = [
        (size < settings.least_size, "small",
         lambda: f"{size:.0f} pixels; the minimum is {settings.least_size}"),
        (bool(outside), "cut-off", lambda: "eyes, nose or mouth lie outside the photograph"),
        (turn > settings.most_turn, "turned",
         lambda: f"{turn:.0f} degrees; the maximum is {settings.most_turn:g}"),
        (sharp < settings.least_sharpness, "blurred",
         lambda: f"sharpness {sharp:.1f}; the minimum is {settings.least_sharpness:g}"),
    ]  # fmt: skip
    return next(((fate, why()) for is_so, fate, why in reasons if is_so), ("kept", ""))


def _rounded(values: "np.ndarray") -> list[float]:
    return [round(float(value), 2) for value in values.clip(-1e6, 1e6)]


def pose(points: "np.ndarray") -> tuple[float, float]:
    """(yaw, pitch) in degrees of a face from its five points ``[5, 2]``.

    Yaw is positive if the face looks to the right of the image, pitch if it looks down. The
    points are modelled as an average face under rotation, scale and translation: a least-squares
    affine map, then the nearest rotation. For half of real profiles the result is between 45 and
    61 degrees.
    """
    import numpy as np

    model = np.column_stack([_frontal(), _DEPTHS])
    model -= model.mean(axis=0)
    affine = np.linalg.lstsq(model, points - points.mean(axis=0), rcond=None)[0].T
    left, _, right = np.linalg.svd(affine, full_matrices=False)
    rows = left @ right
    # Roll does not matter: the nose's direction is measured in the face's own upright frame.
    ahead = np.array([rows[0, 2], rows[1, 2], np.cross(rows[0], rows[1])[2]])
    down = points[3:].mean(axis=0) - points[:2].mean(axis=0)
    down /= max(float(np.hypot(*down)), 1e-9)
    across, along = ahead[:2] @ (down[1], -down[0]), ahead[:2] @ down
    yaw = np.degrees(np.arctan2(across, ahead[2]))
    pitch = np.degrees(np.arctan2(along, np.hypot(across, ahead[2])))
    return float(yaw), float(pitch) - _PITCH_AHEAD


def _frontal() -> "np.ndarray":
    """The template made symmetric, ``[5, 2]``."""
    import numpy as np

    points = np.array(ARCFACE_POINTS)
    mirrored = points[[1, 0, 2, 4, 3]] * [-1, 1] + [2 * points[2, 0], 0]
    return (points + mirrored) / 2

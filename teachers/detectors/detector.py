"""A face detector from an ONNX file with one of the known interfaces.

* YuNet, as used by OpenCV's ``FaceDetectorYN``: an input of BGR bytes and, for each stride 8, 16
  and 32, the outputs ``cls_8``, ``obj_8``, ``bbox_8``, ``kps_8`` and so on.
* SCRFD (and RetinaFace), as published by insightface: an RGB input, (pixel - 127.5) / 128, and nine
  outputs: the scores of the three strides, then the boxes, then the landmarks.

The file is untrusted: it is opened and run in a confined process only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.errors import UserError
from teachers.detectors.decoding import (
    Faces,
    decode_scrfd,
    decode_yunet,
    join,
    without_overlaps,
)
from teachers.detectors.refining import LEAST_SCORE as LEAST_REFINED
from teachers.detectors.refining import refined_points
from teachers.onnx_files import read_onnx
from teachers.onnxruntime_sessions import open_session, run_session

STRIDES = (8, 16, 32)
LARGEST_SIDE = 1024
"""Maximum side of a photograph during detection, which bounds the time and makes results
independent of the camera"""
SMALL_SIDE = 320
"""Side of a second pass: a face that fills the photograph is too large for the first"""
MOST_SHARED = 0.55
"""Share of the smaller of two boxes; 0.55 is an IoU of 0.38 for equal boxes"""
MOST_FACES = 1000
_THREADS = 1  # several processes work in parallel
_TRIED_SIZES = ((96, 64), (320, 352))
_WIDTHS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
_YUNET = tuple(f"{name}_{stride}" for stride in STRIDES for name in _WIDTHS)


@dataclass(frozen=True)
class _Interface:
    """Input and output format of a kind of detector."""

    name: str
    prepare: Callable[[np.ndarray], np.ndarray]
    """uint8 RGB ``[H, W, 3]`` to float32 of the same shape"""
    decode: Callable[[dict[str, np.ndarray], int, tuple[int, int], float], Faces]
    least_score: float
    """The default of its authors"""


_INTERFACES = {
    "yunet": _Interface("yunet", lambda rgb: rgb[:, :, ::-1].astype(np.float32), decode_yunet, 0.6),
    "scrfd": _Interface(
        "scrfd", lambda rgb: (rgb.astype(np.float32) - 127.5) / 128, decode_scrfd, 0.5
    ),
}


class Detector:
    """Finds faces in photographs; ``digest`` is the SHA-256 of the file.

    Raises ``UserError`` for a file without a known detector interface.
    """

    def __init__(self, path: Path) -> None:
        model, self.digest = read_onnx(path)
        self._path = path
        self._interface, self._outputs = _recognise(path, model)
        self.kind = self._interface.name
        self._input, declared = _image_input(path, model)
        self._session, self._fixed = self._open(model, declared)

    @property
    def least_score(self) -> float:
        """The default minimum score of a face."""
        return self._interface.least_score

    def find(self, pixels: np.ndarray, least_score: float) -> Faces:
        """Faces in uint8 RGB ``[H, W, 3]`` of any size, by descending score, in its pixels."""
        parts = [
            self._find_at(pixels, factor, least_score)
            for factor in self._factors(*pixels.shape[:2])
        ]
        found = without_overlaps(join(parts).take(slice(4 * MOST_FACES)), MOST_SHARED)
        return found.take(slice(MOST_FACES))

    def refine(self, pixels: np.ndarray, box: np.ndarray, points: np.ndarray) -> np.ndarray:
        """More exact landmarks ``[5, 2]`` of a detected face, if they are cheap to compute."""
        if self._fixed is not None:
            return points
        return refined_points(
            lambda part: self._find_at(part, 1.0, LEAST_REFINED), pixels, box, points
        )

    def _factors(self, height: int, width: int) -> list[float]:
        """The scale of the photograph in each pass."""
        if self._fixed is not None:
            return [min(self._fixed[0] / height, self._fixed[1] / width)]
        side = max(height, width)
        factors = {min(1.0, most / side) for most in (LARGEST_SIDE, SMALL_SIDE)}
        return sorted(factors, reverse=True)

    def _find_at(self, pixels: np.ndarray, factor: float, least_score: float) -> Faces:
        height, width = pixels.shape[:2]
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        seen = (
            pixels if size == (height, width) else cv2.resize(pixels, size[::-1], interpolation=how)
        )
        padded = self._fixed or (-(-size[0] // 32) * 32, -(-size[1] // 32) * 32)
        canvas = np.zeros((*padded, 3), np.uint8)
        canvas[: size[0], : size[1]] = seen
        maps = self._run(canvas)
        return join(
            [self._interface.decode(maps[s], s, padded, least_score) for s in STRIDES]
        ).scaled(1 / factor)

    def _run(self, canvas: np.ndarray, session: Any = None) -> dict[int, dict[str, np.ndarray]]:
        """The maps of each stride, ``[M, ...]``, with all anchors of a cell together."""
        image = self._interface.prepare(canvas).transpose(2, 0, 1)[None]
        names = [name for maps in self._outputs.values() for name in maps.values()]
        inputs = {self._input: np.ascontiguousarray(image)}
        session = session or self._session
        values = run_session(session, self._path, names, inputs, "detector")
        given = dict(zip(names, values, strict=True))
        return {
            stride: {
                kind: self._checked(kind, given[name], stride, canvas.shape[:2])
                for kind, name in maps.items()
            }
            for stride, maps in self._outputs.items()
        }

    def _checked(
        self, kind: str, value: np.ndarray, stride: int, size: tuple[int, int]
    ) -> np.ndarray:
        """``[M, width]``, M being a multiple of the number of cells."""
        grid, width = (size[0] // stride) * (size[1] // stride), _WIDTHS[kind]
        anchors = value.size / (grid * width)
        if value.dtype != np.float32 or anchors not in (1.0, 2.0, 3.0):
            raise UserError(
                f"{self._path}: {kind} of stride {stride} is {value.dtype} {list(value.shape)} for "
                f"an input of {size[0]}x{size[1]}; a detector has {grid} x {width}, twice or three "
                "times that"
            )
        return value.reshape(-1, width)

    def _open(self, model: Any, declared: list[int]) -> tuple[Any, tuple[int, int] | None]:
        """A session for any size, and None; or a session for the size in the file, and that size.

        Files often declare the size at export but accept others.
        """
        try:
            session = open_session(_of_any_size(model), self._path, _THREADS)
            for size in _TRIED_SIZES:
                self._run(np.zeros((*size, 3), np.uint8), session)
            return session, None
        except (UserError, MemoryError):
            if not all(declared) or declared[0] % 32 or declared[1] % 32:
                raise
        fixed = (declared[0], declared[1])
        if max(fixed) > LARGEST_SIDE:
            raise UserError(
                f"{self._path}: it takes images of {fixed[0]}x{fixed[1]} pixels; at most "
                f"{LARGEST_SIDE} per side are allowed: export it smaller, or for any size"
            )
        session = open_session(model, self._path, _THREADS)
        self._run(np.zeros((*fixed, 3), np.uint8), session)
        return session, fixed


def _recognise(path: Path, model: Any) -> tuple[_Interface, dict[int, dict[str, str]]]:
    """The interface, and the output names by stride and kind of map."""
    names = [each.name for each in model.graph.output]
    if set(_YUNET) <= set(names):
        return _INTERFACES["yunet"], {
            stride: {kind: f"{kind}_{stride}" for kind in _WIDTHS} for stride in STRIDES
        }
    if len(names) == 9:
        kinds = ("cls", "bbox", "kps")
        return _INTERFACES["scrfd"], {
            stride: {kind: names[3 * k + i] for k, kind in enumerate(kinds)}
            for i, stride in enumerate(STRIDES)
        }
    listed = ", ".join(name[:40] for name in names[:12]) or "none"
    raise UserError(
        f"{path}: its {len(names)} outputs ({listed}) are not those of a known face detector; "
        f"expected YuNet (OpenCV Zoo, face_detection_yunet_2023mar.onnx) or SCRFD with five points "
        "(insightface, scrfd_*_bnkps.onnx, det_*.onnx)"
    )


def _image_input(path: Path, model: Any) -> tuple[str, list[int]]:
    """The input's name, and its declared (height, width), 0 if free."""
    weights = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in weights]
    sides = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim] if inputs else []
    if len(inputs) != 1 or len(sides) != 4 or sides[0] > 1 or sides[1] not in (0, 3):
        names = ", ".join(each.name[:40] for each in inputs[:5]) or "none"
        raise UserError(f"{path}: inputs are {names} {sides}; a detector has one, [1, 3, H, W]")
    return inputs[0].name, sides[2:]


def _of_any_size(model: Any) -> Any:
    """A copy of the model with free height and width, without the shapes derived from them."""
    import onnx

    free = onnx.ModelProto()
    free.CopyFrom(model)
    del free.graph.value_info[:]
    weights = {each.name for each in free.graph.initializer}
    for image in (each for each in free.graph.input if each.name not in weights):
        for axis, name in ((2, "height"), (3, "width")):
            image.type.tensor_type.shape.dim[axis].dim_param = name
    for output in free.graph.output:
        output.type.tensor_type.ClearField("shape")
    return free

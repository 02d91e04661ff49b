"""Face alignment by five landmarks, the only alignment used in training and embedding.

Landmarks are (x, y) of left eye, right eye, nose, left and right corner of the mouth, as seen in
the image. Coordinates refer to pixel centres and start at 0.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ALIGNED_SIZE = (112, 112)
"""(height, width) of the ArcFace template that the landmarks refer to"""
ARCFACE_POINTS = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
_MOST_SAMPLES = 16
"""Maximum samples per side of a pixel; reached at faces of 1,800 pixels."""


def similarity(points: "np.ndarray", target: "np.ndarray") -> "np.ndarray":
    """Rotation, scale and shift that map ``points`` closest to ``target``: float64 ``[2, 3]``.

    Both are ``[N, 2]``. The least-squares solution in closed form: with points as complex numbers
    around their means, z = a w with a = sum(conj(w) z) / sum(|w|^2). It never mirrors. Raises
    ``ValueError`` if all points are equal.
    """
    import numpy as np

    points, target = np.asarray(points, np.float64), np.asarray(target, np.float64)
    w = (points - points.mean(axis=0)) @ (1, 1j)
    z = (target - target.mean(axis=0)) @ (1, 1j)
    spread = np.vdot(w, w).real
    if not 0 < spread < np.inf:
        raise ValueError("the five points of a face coincide, or are not finite")
    a = np.vdot(w, z) / spread
    turn = np.array([[a.real, -a.imag], [a.imag, a.real]])
    return np.column_stack([turn, target.mean(axis=0) - turn @ points.mean(axis=0)])


def align(pixels: "np.ndarray", points: "np.ndarray") -> "np.ndarray":
    """The face with landmarks ``[5, 2]`` in uint8 RGB ``[H, W, 3]``, aligned: ``[112, 112, 3]``.

    Areas outside the image are black. Each pixel averages about as many pixels as it covers, to
    avoid aliasing of large faces. Raises ``ValueError`` as ``similarity`` does.
    """
    import cv2
    import numpy as np

    matrix = similarity(points, np.array(ARCFACE_POINTS))
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    samples = max(1, min(_MOST_SAMPLES, round(1 / scale))) if scale > 0 else 1
    # Pixel i of the supersampled image is centred at (i + 0.5) / samples - 0.5 of the other.
    matrix *= samples
    matrix[:, 2] += (samples - 1) / 2
    height, width = (side * samples for side in ALIGNED_SIZE)
    fine = cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_LINEAR)
    if samples == 1:
        return fine
    return cv2.resize(fine, ALIGNED_SIZE[::-1], interpolation=cv2.INTER_AREA)

"""Image files into rows of a batch.

simplejpeg has libjpeg-turbo write into the batch itself, where cv2 decodes into memory of its own
(docs/benchmarks.md, "Loader"). What it does not read, cv2 does; the pixels are the same.
"""

import cv2
import numpy as np

from curation.errors import UserError
from curation.images import decode

try:
    import simplejpeg
except ImportError:  # a platform without its wheel: all is read by cv2
    simplejpeg = None

QUANTISATION_TABLE = b"\xff\xdb"
EXIF = b"Exif\0\0"


def decode_into(target: np.ndarray, data: bytes, mirrored: bool, what: str = "image") -> None:
    """Decode a JPEG or PNG file into ``target`` uint8 RGB [H, W, 3], mirrored if asked for.

    Raises ``UserError`` naming ``what`` where the bytes cannot be decoded or have another size.
    """
    if not _decode_jpeg_into(target, data):
        picture = decode(data, what)
        if picture.shape != target.shape:
            found, wanted = (f"{shape[0]}x{shape[1]}" for shape in (picture.shape, target.shape))
            raise UserError(
                f"{what} is {found} pixels in a store of {wanted}; make the store again"
            )
        np.copyto(target, picture)
    if mirrored:
        cv2.flip(target, 1, dst=target)


def _decode_jpeg_into(target: np.ndarray, data: bytes) -> bool:
    """Whether that was possible; damaged files, other sizes and other formats are left alone."""
    # cv2 turns an image by its EXIF orientation, which comes before the first table.
    if simplejpeg is None or data.find(EXIF, 0, data.find(QUANTISATION_TABLE)) >= 0:
        return False
    try:
        return simplejpeg.decode_jpeg(data, "RGB", buffer=target).shape == target.shape
    except ValueError:
        return False

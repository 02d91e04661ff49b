"""Decoding of image files into rows of a batch."""

import cv2
import numpy as np

from curation import images


def decode_into(target: np.ndarray, data: bytes, mirrored: bool, what: str = "image") -> None:
    """Decode a JPEG or PNG file into ``target`` uint8 RGB [H, W, 3], mirrored if asked for.

    Raises ``UserError`` naming ``what`` if the bytes cannot be decoded or the size differs.
    """
    images.decode_into(target, data, what)
    if mirrored:
        cv2.flip(target, 1, dst=target)

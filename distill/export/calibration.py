"""The inputs of int8 formats in addition to the network: real faces, and a quality gate."""

from dataclasses import dataclass

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.images import decode
from distill.export.int8_gate import Gate
from teachers.preprocessing import Preprocessing

LEAST = 500
"""The required number of faces; from more, this many are drawn."""


@dataclass(frozen=True)
class Calibration:
    """``faces`` like those in the training data, and the ``gate``."""

    faces: ImageSet
    gate: Gate | None

    def pixels(self, preprocessing: Preprocessing) -> np.ndarray:
        """Normalised pixels float32 [2 * 500, 3, H, W] of 500 random faces, upright and mirrored.

        Raises ``UserError`` if there are fewer faces.
        """
        if len(self.faces) < LEAST:
            raise UserError(
                f"{self.faces.path}: it has {len(self.faces):,} faces; calibrating int8 takes at "
                f"least {LEAST:,} of the set that the network was trained on"
            )
        drawn = np.random.default_rng(0).choice(len(self.faces), LEAST, replace=False)
        name = self.faces.name
        upright = np.concatenate(
            [preprocessing(decode(self.faces.read(i), f"{name}, image {i}")[None]) for i in drawn]
        )
        both = np.stack([upright, upright[..., ::-1]], axis=1)
        return np.ascontiguousarray(both.reshape(-1, *upright.shape[1:]))

"""A data set for planting faults, and the scores of a method."""

from dataclasses import dataclass, replace

import numpy as np
from fault_pictures import FaultPictures
from plant import Marks, in_order

from curation.image_set import ImageSet
from curation.noise.embedded import EmbeddedImages

PLANTED_IDENTITIES = 40
LEAST_IMAGES = 5
OURS = "ours"
EPSILONS = np.arange(0.7, 1.31, 0.1)
"""Euclidean distances tried for DBSCAN in hindsight"""


@dataclass(frozen=True)
class Row:
    """One method on one fault, with one seed."""

    fault: str
    over: str
    method: str
    marks: Marks
    reliability: np.ndarray | None = None
    """int ``[bins, 2]``, if the method gives probabilities: images per bin, and faulty ones"""


@dataclass(frozen=True)
class Faces:
    """A data set with embeddings, and images for planting."""

    images: ImageSet
    embedded: EmbeddedImages
    spoilt: FaultPictures
    numbers: np.ndarray
    """int64 ``[N]``: the index of each image in the set"""

    def without_known_errors(self, known: dict[str, list]) -> "Faces":
        """The data without errors known from inspection: images and identities removed, identities
        merged.
        """
        labels = self.labels.copy()
        for first, second in known["divided"]:
            labels[labels == second] = first
        left_out = np.isin(labels, known["mixed"])
        left_out[known["misplaced"] + known["repeated"]] = True
        kept = np.flatnonzero(~left_out)
        embedded, order, _ = self.relabelled(labels[kept], self.embedded.rows[kept])
        return replace(self, embedded=embedded, numbers=kept[order])

    @property
    def labels(self) -> np.ndarray:
        """int ``[N]``"""
        return self.embedded.labels

    def large(self, random: np.random.Generator, least: int = LEAST_IMAGES) -> np.ndarray:
        """Shuffled identities of at least this many images."""
        return random.permutation(np.flatnonzero(self.embedded.sizes >= least))

    def pairs(self, random: np.random.Generator, least: int) -> np.ndarray:
        """Pairs int64 ``[P, 2]`` of identities with at least ``LEAST_IMAGES`` and
        ``least`` images.
        """
        first = self.large(random)[:PLANTED_IDENTITIES]
        second = np.setdiff1d(self.large(random, least), first, assume_unique=True)
        return np.column_stack([first, random.permutation(second)[:PLANTED_IDENTITIES]])

    def relabelled(
        self, labels: np.ndarray, rows: np.ndarray | None = None
    ) -> tuple[EmbeddedImages, np.ndarray, np.ndarray]:
        """Like ``in_order``; for all images or for ``rows``."""
        embedded = self.embedded
        return in_order(
            labels, embedded.unit, embedded.norm, embedded.rows if rows is None else rows
        )

    def with_pictures(
        self, which: np.ndarray, labels: np.ndarray
    ) -> tuple[EmbeddedImages, np.ndarray]:
        """The images followed by these additional ones, sorted by label, and their original
        positions.
        """
        embedded = self.embedded
        unit = np.concatenate([embedded.unit[embedded.rows], self.spoilt.unit[which]])
        norm = np.concatenate([embedded.norm[embedded.rows], self.spoilt.norm[which]])
        both = np.concatenate([self.labels, labels])
        images, order, _ = in_order(both, unit, norm, np.arange(len(both)))
        return images, order

"""A data set to plant faults into, and what a method is marked with."""

from dataclasses import dataclass, replace

import numpy as np
from fault_pictures import FaultPictures
from plant import Marks, in_order

from curation.noise.embedded import EmbeddedImages
from curation.store import ImageSet

PLANTED_IDENTITIES = 40
LEAST_IMAGES = 5
OURS = "ours"
EPSILONS = np.arange(0.7, 1.31, 0.1)
"""Euclidean distances that DBSCAN is tried with in hindsight"""


@dataclass(frozen=True)
class Row:
    """One method on one fault, with one seed."""

    fault: str
    over: str
    method: str
    marks: Marks
    reliability: np.ndarray | None = None
    """int ``[bins, 2]``, where the method gives probabilities: images of each bin, faulty ones"""


@dataclass(frozen=True)
class Faces:
    """A data set with embeddings, and pictures made to spoil it."""

    images: ImageSet
    embedded: EmbeddedImages
    spoilt: FaultPictures
    numbers: np.ndarray
    """int64 ``[N]``: which image of the set each is"""

    def without_known_errors(self, known: dict[str, list]) -> "Faces":
        """Without the errors of the data themselves that somebody saw: images and identities left
        out, identities put together."""
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
        """Identities of at least so many images, shuffled."""
        return random.permutation(np.flatnonzero(self.embedded.sizes >= least))

    def pairs(self, random: np.random.Generator, least: int) -> np.ndarray:
        """Pairs int64 ``[P, 2]`` of identities: of ``LEAST_IMAGES``, and of ``least``, or more."""
        first = self.large(random)[:PLANTED_IDENTITIES]
        second = np.setdiff1d(self.large(random, least), first, assume_unique=True)
        return np.column_stack([first, random.permutation(second)[:PLANTED_IDENTITIES]])

    def relabelled(
        self, labels: np.ndarray, rows: np.ndarray | None = None
    ) -> tuple[EmbeddedImages, np.ndarray, np.ndarray]:
        """As of ``in_order``; of all images or of ``rows``."""
        embedded = self.embedded
        return in_order(
            labels, embedded.unit, embedded.norm, embedded.rows if rows is None else rows
        )

    def with_pictures(
        self, which: np.ndarray, labels: np.ndarray
    ) -> tuple[EmbeddedImages, np.ndarray]:
        """The images and after them these pictures, in order of labels; where each stood before."""
        embedded = self.embedded
        unit = np.concatenate([embedded.unit[embedded.rows], self.spoilt.unit[which]])
        norm = np.concatenate([embedded.norm[embedded.rows], self.spoilt.norm[which]])
        both = np.concatenate([self.labels, labels])
        images, order, _ = in_order(both, unit, norm, np.arange(len(both)))
        return images, order

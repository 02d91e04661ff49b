"""The scores of pairs and their identities, from which verification measures are computed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PairScores:
    """Cosines of genuine and impostor pairs, both in descending order.

    ``genuine`` [G] are pairs of the identities ``genuine_of`` [G]. ``impostors`` [K] are the
    highest scores of all impostor pairs, between the identities ``left`` and ``right`` [K].
    Identities are numbers below ``identities``, or -1 for unknown identity. ``totals`` gives the
    total weight of all impostor pairs.
    """

    genuine: np.ndarray
    genuine_of: np.ndarray
    impostors: np.ndarray
    left: np.ndarray
    right: np.ndarray
    identities: int
    totals: "ImpostorTotals | None" = None
    """None if ``impostors`` holds all impostor pairs."""


@dataclass(frozen=True)
class ImpostorTotals:
    """The number of images of each identity [I] on both sides of the pairs, and of distractors.

    If ``gallery`` is None, both sides are the same images. Each pair of two of them, and each pair
    of an image and a distractor, counts once.
    """

    probes: np.ndarray
    gallery: np.ndarray | None = None
    distractors: int = 0

    def weigh(self, weights: np.ndarray) -> np.ndarray:
        """The total weight [B] of all impostor pairs; a pair has the product of two ``weights``.

        ``weights`` [B, I] are those of the identities in each draw.
        """
        probes = weights @ self.probes.astype(np.float64)
        if self.gallery is None:
            own = np.square(weights, dtype=np.float64) @ np.square(self.probes, dtype=np.float64)
            return (np.square(probes) - own) / 2 + probes * self.distractors
        gallery = weights @ self.gallery.astype(np.float64) + self.distractors
        own = np.square(weights, dtype=np.float64) @ (self.probes * self.gallery)
        return probes * gallery - own


def listed_scores(
    cosines: np.ndarray, same: np.ndarray, left: np.ndarray, right: np.ndarray
) -> PairScores:
    """The scores of explicit pairs: ``cosines`` [P], genuine where ``same`` [P].

    ``left`` and ``right`` [P] are the identities of the two sides.
    """
    genuine, impostor = np.flatnonzero(same), np.flatnonzero(~same)
    genuine = genuine[np.argsort(-cosines[genuine], kind="stable")]
    impostor = impostor[np.argsort(-cosines[impostor], kind="stable")]
    return PairScores(
        genuine=cosines[genuine],
        genuine_of=left[genuine],
        impostors=cosines[impostor],
        left=left[impostor],
        right=right[impostor],
        identities=int(max(left.max(initial=-1), right.max(initial=-1))) + 1,
    )


def both_scores(first: PairScores, second: PairScores, most: int) -> PairScores:
    """Merge two scans of the same identities; keeps the ``most`` highest impostor scores."""
    impostors = np.concatenate([first.impostors, second.impostors])
    order = np.argsort(-impostors, kind="stable")[:most]
    genuine = np.concatenate([first.genuine, second.genuine])
    descending = np.argsort(-genuine, kind="stable")
    return PairScores(
        genuine=genuine[descending],
        genuine_of=np.concatenate([first.genuine_of, second.genuine_of])[descending],
        impostors=impostors[order],
        left=np.concatenate([first.left, second.left])[order],
        right=np.concatenate([first.right, second.right])[order],
        identities=first.identities,
        totals=first.totals,
    )


def linked_identities(images: Sequence[bytes], same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Infer the people of 2P ``images`` without labels: int32 [P] for each side of the pairs.

    Equal files show the same person, and so do the two images of a genuine pair. Images of one
    person that no pair links count as different people.
    """
    first: dict[bytes, int] = {}
    return linked_people(np.array([first.setdefault(each, len(first)) for each in images]), same)


def linked_people(sides: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`linked_identities` for numbers [2P] that identify the two sides of each pair."""
    kinds, nodes = np.unique(sides, return_inverse=True)
    parent = list(range(len(kinds)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for pair in np.flatnonzero(same):
        parent[root(int(nodes[2 * pair]))] = root(int(nodes[2 * pair + 1]))
    roots = np.array([root(node) for node in range(len(kinds))])
    people = np.unique(roots, return_inverse=True)[1].astype(np.int32)[nodes]
    return people[::2], people[1::2]

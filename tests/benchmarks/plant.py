"""Plants faults into labels, and scores methods that look for them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from curation.noise.embedded import EmbeddedImages

Target = Literal["identity", "image"]


def wrong_labels(
    labels: np.ndarray, share: float, target: Target, random: np.random.Generator
) -> np.ndarray:
    """Labels of which ``share`` are wrong: each of another identity, drawn uniformly, or of the
    identity of another image, so that large ones are more likely.
    """
    given = labels.copy()
    bad = random.choice(len(labels), round(share * len(labels)), replace=False)
    choices = np.unique(labels) if target == "identity" else labels
    while len(bad):
        given[bad] = random.choice(choices, len(bad))
        bad = bad[given[bad] == labels[bad]]
    return given


def out_of_set_labels(
    labels: np.ndarray, share: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Open-set label errors: people who are not in the set, like most label errors on the web.

    A fifth of the identities is removed, and their images get the labels of random remaining
    images: ``share`` times the number of those. Returns the indices of the resulting images int
    ``[n]``, the mislabelled ones last, and their labels ``[n]``.
    """
    names = np.unique(labels)
    out = np.isin(labels, random.choice(names, len(names) // 5, replace=False))
    stay = np.flatnonzero(~out)
    out_of_set = random.choice(np.flatnonzero(out), round(share * len(stay)), replace=False)
    given = random.choice(labels[stay], len(out_of_set))
    return np.concatenate([stay, out_of_set]), np.concatenate([labels[stay], given])


def merge_identities(labels: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Labels with both identities of each pair ``[P, 2]`` under the first one's."""
    given = labels.copy()
    for first, second in pairs:
        given[labels == second] = first
    return given


def split_identities(
    labels: np.ndarray, identities: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Labels with a fifth to a half of the images of each of ``identities`` under a new one."""
    given = labels.copy()
    made = labels.max() + 1 + np.arange(len(identities))
    for identity, new in zip(identities, made, strict=True):
        images = random.permutation(np.flatnonzero(labels == identity))
        given[images[: max(1, int(len(images) * random.uniform(0.2, 0.5)))]] = new
    return given


def in_order(
    labels: np.ndarray, unit: np.ndarray, norm: np.ndarray, rows: np.ndarray
) -> tuple[EmbeddedImages, np.ndarray, np.ndarray]:
    """Images with these labels in the format of the checks: ascending, without gaps.

    Also the original position of each image, and the label of each identity.
    """
    order = np.argsort(labels, kind="stable")
    names, ascending = np.unique(labels[order], return_inverse=True)
    return EmbeddedImages(ascending, unit, norm, rows[order]), order, names


@dataclass(frozen=True)
class People:
    """The people in each of K identities."""

    first: np.ndarray
    """int ``[K]``: the person with the most images"""
    share: np.ndarray
    """float ``[K]``: that person's share of the identity's images"""
    second: np.ndarray
    """int ``[K]``: images of the person with the second most"""


def people_of(person: np.ndarray, images: EmbeddedImages) -> People:
    """Count the persons int ``[N]`` of the images in every identity."""
    shown, count = np.unique(np.column_stack([images.labels, person]), axis=0, return_counts=True)
    order = np.lexsort((-count, shown[:, 0]))
    start = np.searchsorted(shown[order, 0], np.arange(images.identities))
    most = count[order][start]
    after = np.append(count[order], 0)[start + 1]
    alone = np.append(shown[order, 0], -1)[start + 1] != np.arange(images.identities)
    return People(shown[order, 1][start], most / images.sizes, np.where(alone, 0, after))


@dataclass(frozen=True)
class Marks:
    """How well the flags agree with the planted faults."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-12)


def marks_of(found: int, flagged: int, planted: int) -> Marks:
    """Precision and recall if ``found`` of ``planted`` are among ``flagged``."""
    return Marks(found / max(flagged, 1), found / max(planted, 1))


def marks(flagged: np.ndarray, faulty: np.ndarray) -> Marks:
    """From masks bool ``[n]``."""
    return marks_of(int((flagged & faulty).sum()), int(flagged.sum()), int(faulty.sum()))


def in_hindsight(scores: np.ndarray, faulty: np.ndarray, missed: int = 0) -> tuple[Marks, float]:
    """The scores at the threshold with the best F1, and that threshold.

    Higher scores ``[n]`` are flagged. ``missed`` faults have no score. A threshold separates
    different scores only.
    """
    order = np.argsort(-scores, kind="stable")
    found, flagged = np.cumsum(faulty[order]), np.arange(1, len(order) + 1)
    last = np.append(scores[order][1:] != scores[order][:-1], True)
    f1 = np.where(last, 2 * found / (flagged + faulty.sum() + missed), -1.0)
    best = int(f1.argmax())
    planted = int(faulty.sum()) + missed
    return marks_of(int(found[best]), best + 1, planted), float(scores[order][best])

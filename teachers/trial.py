"""A test of a teacher on a few hundred pairs, before it embeds the whole data set.

Wrong preprocessing or weights still give embeddings, only useless ones. Pairs drawn from the images
of the data set show whether the embeddings separate people.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.images import count_together
from curation.progress import Progress
from curation.views import ImageSet
from teachers.embedder import Embedder, normalise
from teachers.embeddings import cached_rows
from teachers.ensemble import Ensemble
from teachers.filling import Pictures
from teachers.setting_words import setting
from teachers.usable import check_embeddings

PAIRS = 200
"""Genuine pairs, and as many impostor pairs, all from the same 400 images"""
FEWEST_PAIRS, FEWEST_IDENTITIES = 100, 20
"""With fewer, the accuracy is not meaningful."""
LEAST_ACCURACY = 0.65
"""Random guessing gives 0.5. With wrongly scaled pixels SFace gets about 0.59, correctly scaled
about 0.99, and about 0.68 if 40 % of the labels are wrong (docs/guide.md)."""
_BATCH = 128


@dataclass(frozen=True)
class TrialPairs:
    """Pairs of positions in an image set: ``left`` and ``right`` int64 [P], ``same`` bool [P]."""

    left: np.ndarray
    right: np.ndarray
    same: np.ndarray


def try_teacher(
    embedder: Embedder,
    images: ImageSet,
    cache_root: Path,
    least_accuracy: float = LEAST_ACCURACY,
    progress: Progress | None = None,
) -> str:
    """The result in a few words, for the record; every member of an ensemble is tested.

    Raises ``UserError`` if the accuracy is below ``least_accuracy``. Cached embeddings are reused.
    """
    pairs = draw_pairs(images.offsets)
    if pairs is None:
        return (
            f"the teacher was not tried: that takes {FEWEST_PAIRS} pairs of images of one "
            f"identity, from at least {FEWEST_IDENTITIES} identities, and "
            f"{images.full_name} has fewer"
        )
    members = embedder.members if isinstance(embedder, Ensemble) else (embedder,)
    shares = [_share_right(member, images, pairs, cache_root, progress) for member in members]
    for number, share in enumerate(shares):
        if share < least_accuracy:
            raise UserError(_complaint(members, number, share, len(pairs.same), least_accuracy))
    listed = ", ".join(f"{share:.3f}" for share in shares)
    return f"the teacher classifies {listed} of {len(pairs.same)} drawn pairs correctly"


def trial_size(images: ImageSet) -> int:
    """The number of images that ``try_teacher`` embeds if none is cached."""
    pairs = draw_pairs(images.offsets)
    return 0 if pairs is None else len(np.unique([pairs.left, pairs.right]))


def draw_pairs(offsets: np.ndarray) -> TrialPairs | None:
    """Pairs of images, where identity k has the positions offsets[k] ... offsets[k+1] - 1.

    Deterministic for given ``offsets`` [identities + 1]; uses as many identities with two images or
    more as possible. None if there are too few.
    """
    generator = np.random.default_rng(0)
    sizes = np.diff(offsets)
    able = generator.permutation(np.flatnonzero(sizes >= 2))[:PAIRS]
    images = [offsets[k] + generator.permutation(sizes[k])[: 2 * PAIRS] for k in able.tolist()]
    rounds = range(max(map(len, images), default=0) // 2)
    pairs = [own[2 * i : 2 * i + 2] for i in rounds for own in images if len(own) > 2 * i + 1]
    if len(able) < FEWEST_IDENTITIES or len(pairs) < FEWEST_PAIRS:
        return None
    left, right = np.array(pairs[:PAIRS]).T
    others = np.roll(right, 1)
    identity = np.searchsorted(offsets, [left, others], side="right")
    differ = identity[0] != identity[1]
    same = np.zeros(len(left) + int(differ.sum()), bool)
    same[: len(left)] = True
    return TrialPairs(
        np.concatenate([left, left[differ]]), np.concatenate([right, others[differ]]), same
    )


def accuracy(cosines: np.ndarray, same: np.ndarray) -> float:
    """The accuracy on pairs, each half classified with the best threshold of the other half."""
    halves = (slice(0, None, 2), slice(1, None, 2))
    right = [
        (cosines[half] > _best_threshold(cosines[other], same[other])) == same[half]
        for half, other in (halves, halves[::-1])
    ]
    return float(np.concatenate(right).mean())


def _best_threshold(cosines: np.ndarray, same: np.ndarray) -> float:
    """The midpoint of the two scores between which most pairs are classified correctly."""
    order = np.argsort(cosines, kind="stable")
    scores = np.concatenate([[-np.inf], cosines[order], [np.inf]])
    # If the first k are rejected, impostors among them and genuine pairs after them are correct.
    best = int(np.argmax(np.cumsum(np.concatenate([[0], np.where(same[order], -1, 1)]))))
    return float(scores[best] / 2 + scores[best + 1] / 2)


def _share_right(
    embedder: Embedder,
    images: ImageSet,
    pairs: TrialPairs,
    cache_root: Path,
    progress: Progress | None,
) -> float:
    positions, index = np.unique(np.stack([pairs.left, pairs.right]), return_inverse=True)
    known = cached_rows(embedder, images, cache_root, images.rows[positions])
    vectors = _embed(embedder, images, positions, progress) if known is None else known
    left, right = normalise(vectors.astype(np.float32))[index.reshape(2, -1)]
    cosines = np.einsum("pd,pd->p", left, right)
    return accuracy(cosines, pairs.same)


def _embed(
    embedder: Embedder, images: ImageSet, positions: np.ndarray, progress: Progress | None
) -> np.ndarray:
    """Embeddings of the upright images at ``positions``, float32 [P, D], checked."""
    pictures, parts = Pictures(embedder, images.store), []
    together = count_together(images.image_size, _BATCH)
    for first in range(0, len(positions), together):
        chosen = positions[first : first + together]
        raw = embedder.embed(pictures.decoded(images.rows[chosen]))
        parts.append(check_embeddings(raw, images, chosen))
        if progress is not None:
            progress(min(first + together, len(positions)), len(positions))
    return np.concatenate(parts)


def _complaint(
    members: tuple[Embedder, ...], number: int, share: float, pairs: int, least: float
) -> str:
    pixels = members[number].preprocessing
    which = f" (number {number + 1} of the ensemble)" if len(members) > 1 else ""
    return (
        f"the teacher{which} hardly tells people apart: it is right about {share:.2f} of {pairs} "
        f"pairs drawn from the images, and least_accuracy is {least:g}; check its preprocessing "
        f"(colour {pixels.colour}, mean {pixels.mean}, std {pixels.std}) and weights, or continue "
        f"anyway with {setting('least_accuracy', 0)}"
    )

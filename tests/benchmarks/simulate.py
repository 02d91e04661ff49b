"""Embeddings of a large face data set, drawn with the distribution of real faces.

The parameters were measured on 13,498 real faces embedded by SFace: the cosine of an image to the
centre of the other images of its identity (quantiles below), the mean and spread of the cosine
between two people, and that images of one sitting are nearer to each other.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

SHARES = np.array([0.0, 0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0])
CENTRE_COSINES = np.array([0.05, 0.131, 0.351, 0.52, 0.7, 0.78, 0.832, 0.882, 0.907, 0.94])
STRANGERS_MEAN, STRANGERS_SPREAD = 0.068, 0.093
SAME_SITTING = 0.3
WRONG_LABELS, UNUSABLE = 0.05, 0.002
MERGED, DIVIDED = 0.01, 0.01
EVALUATION_PEOPLE, EVALUATION_OVERLAP = 3_000, 100
_BLOCK = 65_536
UNIT, NORM, LABELS, EVALUATION, TRUTH = (
    f"{name}.npy" for name in ("unit", "norm", "labels", "evaluation", "truth")
)


@dataclass(frozen=True)
class Truth:
    """The planted faults; ``person`` is -1 for no face."""

    person: np.ndarray
    """int ``[N]``; the person of identity k is k; higher numbers have no identity"""
    merged: np.ndarray
    """identities ``[A]`` that mix two people half and half"""
    divided: np.ndarray
    """identities ``[B]`` that show the person of the previous identity"""


def write_simulated(
    folder: Path, images: int, identities: int, dimension: int, seed: int = 0
) -> None:
    """Write unit vectors float16 ``[N, D]``, norms, labels, evaluation vectors, and persons."""
    random = np.random.default_rng(seed)
    sizes = long_tailed_sizes(images, identities, random)
    labels = np.repeat(np.arange(identities, dtype=np.int32), sizes)
    truth = draw_truth(labels, identities, random)
    scale = _spectrum(dimension)
    centres = _directions(random, int(truth.person.max()) + 1 + EVALUATION_PEOPLE, scale)
    unit = np.lib.format.open_memmap(folder / UNIT, "w+", np.float16, (images, dimension))
    for first in range(0, images, _BLOCK):
        here = slice(first, first + _BLOCK)
        unit[here] = _images_of(centres, truth.person[here], scale, random)
    unit.flush()
    norm = 11 * np.exp(random.normal(0, 0.13, images))
    np.save(folder / NORM, np.where(truth.person < 0, 0.4 * norm, norm).astype(np.float32))
    np.save(folder / LABELS, labels)
    np.save(folder / TRUTH, truth.person)
    others = np.arange(len(centres) - EVALUATION_PEOPLE, len(centres) - EVALUATION_OVERLAP)
    people = np.concatenate([random.choice(identities, EVALUATION_OVERLAP), others])
    evaluated = _images_of(centres, random.choice(people, 10_000), scale, random)
    np.save(folder / EVALUATION, evaluated)


def long_tailed_sizes(images: int, identities: int, random: np.random.Generator) -> np.ndarray:
    """Lognormal numbers of images, at least one, that sum to ``images``: int64 ``[K]``."""
    weight = random.lognormal(0.0, 1.0, identities)
    sizes = np.maximum(1, (weight / weight.sum() * images).astype(np.int64))
    sizes[np.argmax(sizes)] += images - sizes.sum()
    return sizes


def draw_truth(labels: np.ndarray, identities: int, random: np.random.Generator) -> Truth:
    """The persons of images with these labels: mostly the identity's own."""
    person = labels.astype(np.int64)
    chosen = random.permutation(np.arange(1, identities))
    merged = chosen[: int(MERGED * identities)]
    divided = chosen[len(merged) :][: int(DIVIDED * identities)]
    of_divided = np.isin(labels, divided)
    person[of_divided] -= 1
    second = np.isin(labels, merged) & (random.random(len(labels)) < 0.5)
    person[second] = identities + np.searchsorted(np.sort(merged), labels[second])
    wrong = random.random(len(labels)) < WRONG_LABELS
    person[wrong] = random.permutation(person[wrong])
    person[random.random(len(labels)) < UNUSABLE] = -1
    return Truth(person, merged, divided)


def _images_of(
    centres: np.ndarray, person: np.ndarray, scale: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Unit vectors float32 ``[n, D]`` of each person; random for -1."""
    away = _directions(random, len(person), scale)
    sitting = np.flatnonzero((random.random(len(person)) < SAME_SITTING) & (person >= 0))[1:]
    sitting = sitting[person[sitting] == person[sitting - 1]]
    away[sitting] = _unit(away[sitting] + 1.5 * away[sitting - 1])
    near = np.interp(random.random(len(person)), SHARES, CENTRE_COSINES).astype(np.float32)
    near[person < 0] = 0.0
    centre = centres[person]
    # The rest of the vector after removing its component along the centre.
    away = _unit(away - np.einsum("nd,nd->n", away, centre)[:, None] * centre)
    return near[:, None] * centre + np.sqrt(1 - near**2)[:, None] * away


def _spectrum(dimension: int) -> np.ndarray:
    """Standard deviation per axis such that cosines of two draws spread like those
    of two people.
    """
    axes = np.arange(dimension)
    half = 0.5 / (STRANGERS_SPREAD / (1 - STRANGERS_MEAN)) ** 2
    return np.exp(-0.5 * axes / half).astype(np.float32)


def _directions(random: np.random.Generator, count: int, scale: np.ndarray) -> np.ndarray:
    """Unit vectors float32 ``[count, D]`` with a slight bias towards one direction."""
    drawn = _unit(random.standard_normal((count, len(scale)), np.float32) * scale)
    common = np.zeros(len(scale), np.float32)
    common[-1] = np.sqrt(STRANGERS_MEAN / (1 - STRANGERS_MEAN))
    return _unit(drawn + common)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)

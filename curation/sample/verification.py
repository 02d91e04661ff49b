"""Verification sets of people who are not in training: easy, and frontal against turned."""

from itertools import combinations, product

import numpy as np

from curation.sample.size import FOLDS, SampleSize
from curation.sample.studio import VERIFICATION, Studio

SHOTS = 6
TURNED = 3
"""In ``verify_pose`` shots from this index on are turned."""
SETS = ("verify_easy", "verify_pose")

PhotoKey = tuple[int, int]
"""A photograph: (person, shot)."""


def photograph_person(studio: Studio, name: str, person: int) -> dict[PhotoKey, bytes]:
    """All photographs of one person in one set."""
    files: dict[PhotoKey, bytes] = {}
    for shot in range(SHOTS):
        stream = (VERIFICATION, SETS.index(name), person, shot)
        yaw = _turn(name, shot, studio.random(*stream, 1))
        files[person, shot] = studio.face(person, studio.conditions(*stream, yaw=yaw))
    return files


def choose_pairs(
    name: str, people: range, size: SampleSize, rng: np.random.Generator
) -> list[tuple[PhotoKey, PhotoKey]]:
    """Pairs in ten folds without common people; in each fold, genuine pairs first,
    then impostors.
    """
    pairs: list[tuple[PhotoKey, PhotoKey]] = []
    half = size.pairs // (2 * FOLDS)
    for fold in range(FOLDS):
        members = people[fold::FOLDS]
        places = list(product(members, range(SHOTS)))
        candidates = [pair for pair in combinations(places, 2) if _fits(name, *pair)]
        same = [pair for pair in candidates if pair[0][0] == pair[1][0]]
        different = [pair for pair in candidates if pair[0][0] != pair[1][0]]
        pairs += _sample(same, half, rng) + _sample(different, half, rng)
    return pairs


def _sample(
    pairs: list[tuple[PhotoKey, PhotoKey]], count: int, rng: np.random.Generator
) -> list[tuple[PhotoKey, PhotoKey]]:
    if len(pairs) < count:
        raise ValueError(f"a fold needs {count} pairs, but only {len(pairs)} can be made")
    return [pairs[number] for number in rng.permutation(len(pairs))[:count]]


def _turn(name: str, shot: int, rng: np.random.Generator) -> float | None:
    if name != "verify_pose":
        return None
    if shot < TURNED:
        return float(rng.uniform(-6, 6))
    return float(rng.choice((-1, 1)) * rng.uniform(25, 40))


def _fits(name: str, first: PhotoKey, second: PhotoKey) -> bool:
    """Whether the set may contain this pair."""
    return name != "verify_pose" or first[1] < TURNED <= second[1]

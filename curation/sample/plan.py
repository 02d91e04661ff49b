"""Plans the training set and its faults before anything is drawn."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from curation.sample.non_faces import KINDS
from curation.sample.size import SampleSize, images_per_identity

LARGE_ENOUGH = 5
"""Only identities with this many images get faulty ones, so the majority stays correct."""


@dataclass(frozen=True)
class Shot:
    """One planned training image.

    ``person`` is the person shown (None: no face). ``fault`` is None or one of FAULTS. A duplicate
    copies the image at ``copy_of`` (its index within the identity). A non-face has the kind
    ``non_face``, which is empty for faces.
    """

    person: int | None
    fault: str | None = None
    copy_of: int | None = None
    non_face: str = ""


FAULTS = ("mislabelled", "second_person", "exact_duplicate", "near_duplicate", "non_face")

Plan = list[list[Shot]]
"""The shots of each label."""


def plan_training(size: SampleSize, rng: np.random.Generator) -> Plan:
    """Decide label, person and fault of every training image.

    People are numbered from 0; a split person has two labels, a mixed label two people.
    """
    counts = images_per_identity(size, rng)
    large = rng.permutation(np.flatnonzero(counts >= 2 * LARGE_ENOUGH)).tolist()
    mixed = large[: size.mixed_identities]
    split = large[size.mixed_identities : size.mixed_identities + 2 * size.split_people]
    people = _people_of_labels(size, split)
    plan = [[Shot(people[label])] * int(count) for label, count in enumerate(counts)]
    for number, label in enumerate(mixed):
        _mix_in(plan[label], size.identities + number, rng)
    _plant(plan, size, set(mixed), people, rng)
    return plan


def people_count(size: SampleSize) -> int:
    """Training people have numbers below this; verification people start here."""
    return size.identities + size.mixed_identities


def _people_of_labels(size: SampleSize, split: list[int]) -> list[int]:
    people = list(range(size.identities))
    for first, second in zip(split[::2], split[1::2], strict=True):
        people[second] = people[first]
    return people


def _mix_in(shots: list[Shot], person: int, rng: np.random.Generator) -> None:
    """Give a third to a half of the images, never the first, to a second person."""
    count = round(len(shots) * rng.uniform(0.33, 0.49))
    for place in (1 + rng.permutation(len(shots) - 1)[:count]).tolist():
        shots[place] = Shot(person, "second_person")


def _plant(
    plan: Plan, size: SampleSize, mixed: set[int], people: list[int], rng: np.random.Generator
) -> None:
    slots = iter(_fault_slots(plan, mixed, rng))
    for label, place in _take(slots, size.mislabelled):
        others = [person for person in people if person != people[label]]
        plan[label][place] = Shot(others[rng.integers(len(others))], "mislabelled")
    for number, (label, place) in enumerate(_take(slots, size.non_faces)):
        plan[label][place] = Shot(None, "non_face", non_face=KINDS[number % len(KINDS)])
    for fault, count in (
        ("exact_duplicate", size.exact_duplicates),
        ("near_duplicate", size.near_duplicates),
    ):
        for label, place in _take(slots, count):
            plan[label][place] = replace(plan[label][place], fault=fault)
    for shots in plan:
        _choose_originals(shots, rng)


def _fault_slots(plan: Plan, mixed: set[int], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Places for faults in random order: at most a quarter of an identity, never its first one."""
    slots: list[tuple[int, int]] = []
    for label, shots in enumerate(plan):
        if label not in mixed and len(shots) >= LARGE_ENOUGH:
            places = 1 + rng.permutation(len(shots) - 1)[: len(shots) // 4]
            slots += [(label, int(place)) for place in places]
    return [slots[number] for number in rng.permutation(len(slots))]


def _take(slots: Iterator[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    taken = [slot for slot, _ in zip(slots, range(count), strict=False)]
    if len(taken) < count:
        raise ValueError(f"{count} faults of one kind do not fit into a sample this small")
    return taken


def _choose_originals(shots: list[Shot], rng: np.random.Generator) -> None:
    """Let every duplicate copy an earlier image without a fault."""
    for place, shot in enumerate(shots):
        if shot.fault in ("exact_duplicate", "near_duplicate"):
            ordinary = [number for number in range(place) if shots[number].fault is None]
            shots[place] = replace(shot, copy_of=ordinary[rng.integers(len(ordinary))])

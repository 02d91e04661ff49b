"""From the plan of the training set to the truth about it."""

from collections import defaultdict
from itertools import count

from curation.sample.plan import Plan, Shot
from curation.sample.truth import (
    Duplicate,
    ImageTruth,
    MixedIdentity,
    NonFace,
    SplitPerson,
    Truth,
    VerificationTruth,
)

GENERATOR_VERSION = 1
"""To be raised with every change that makes other pictures or faults from the same seed."""


def tell_truth(seed: int, plan: Plan, verification: tuple[VerificationTruth, ...]) -> Truth:
    """All answers, with record keys: images are numbered from 1 in the order of the plan."""
    keys = count(1)
    keyed = [[(next(keys), shot) for shot in shots] for shots in plan]
    images = [(key, label, shot) for label, row in enumerate(keyed) for key, shot in row]
    return Truth(
        generator=GENERATOR_VERSION,
        seed=seed,
        images=tuple(
            ImageTruth(key=key, label=label, person=shot.person, fault=shot.fault)
            for key, label, shot in images
        ),
        mislabelled=tuple(key for key, _, shot in images if shot.fault == "mislabelled"),
        mixed_identities=_mixed(keyed),
        split_people=_split(plan),
        exact_duplicates=_duplicates(keyed, "exact_duplicate"),
        near_duplicates=_duplicates(keyed, "near_duplicate"),
        non_faces=tuple(
            NonFace(key=key, kind=shot.clutter) for key, _, shot in images if shot.person is None
        ),
        verification=verification,
    )


KeyedPlan = list[list[tuple[int, Shot]]]


def _mixed(keyed: KeyedPlan) -> tuple[MixedIdentity, ...]:
    found = []
    for label, row in enumerate(keyed):
        second = [(key, shot.person) for key, shot in row if shot.fault == "second_person"]
        first = row[0][1].person
        if second and first is not None and second[0][1] is not None:
            keys = tuple(key for key, _ in second)
            found.append(MixedIdentity(label=label, people=(first, second[0][1]), second_keys=keys))
    return tuple(found)


def _split(plan: Plan) -> tuple[SplitPerson, ...]:
    """People whom two labels are about (the first image of a label is always its own person's)."""
    labels: dict[int, list[int]] = defaultdict(list)
    for label, shots in enumerate(plan):
        if shots[0].person is not None:
            labels[shots[0].person].append(label)
    return tuple(
        SplitPerson(person=person, labels=(rows[0], rows[1]))
        for person, rows in sorted(labels.items())
        if len(rows) == 2
    )


def _duplicates(keyed: KeyedPlan, fault: str) -> tuple[Duplicate, ...]:
    return tuple(
        Duplicate(key=key, original=row[shot.copy_of][0])
        for row in keyed
        for key, shot in row
        if shot.fault == fault and shot.copy_of is not None
    )

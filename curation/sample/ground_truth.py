"""The ground truth of the sample: the person in each image, and the planted faults."""

from collections import defaultdict
from itertools import count
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from curation.errors import UserError
from curation.files import atomic_file
from curation.json_text import read_record
from curation.sample.plan import Plan, Shot

GENERATOR_VERSION = 1
"""Increase with every change that alters images or faults of a given seed."""
TRUTH_FILE = "truth.json"
_LARGEST = 64 << 20
"""Bytes; enough for a hundred thousand identities."""


class _TruthPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ImageTruth(_TruthPart):
    """One image record: ``key`` and ``label`` in train.rec, and the person it really shows.

    ``person`` is None if there is no face. ``fault`` is None or one of
    ``curation.sample.plan.FAULTS``.
    """

    key: int
    label: int
    person: int | None
    fault: str | None = None


class PlantedDuplicate(_TruthPart):
    """The image ``key`` duplicates the image ``original`` (keys in train.rec)."""

    key: int
    original: int


class NonFace(_TruthPart):
    """An image without a face; ``kind`` is one of ``curation.sample.non_faces.KINDS``."""

    key: int
    kind: str


class MixedIdentity(_TruthPart):
    """Two people under one label; ``second_keys`` are the images of the smaller part."""

    label: int
    people: tuple[int, int]
    second_keys: tuple[int, ...]


class SplitPerson(_TruthPart):
    """One person under two labels."""

    person: int
    labels: tuple[int, int]


class VerificationTruth(_TruthPart):
    """The two people of every pair in ``NAME.bin``, in order."""

    name: str
    people: tuple[tuple[int, int], ...]


class Truth(_TruthPart):
    """The content of truth.json."""

    generator: int
    seed: int
    images: tuple[ImageTruth, ...]
    mislabelled: tuple[int, ...]
    mixed_identities: tuple[MixedIdentity, ...]
    split_people: tuple[SplitPerson, ...]
    exact_duplicates: tuple[PlantedDuplicate, ...]
    near_duplicates: tuple[PlantedDuplicate, ...]
    non_faces: tuple[NonFace, ...]
    verification: tuple[VerificationTruth, ...]


def write_truth(folder: Path, truth: Truth) -> None:
    """Write truth.json atomically; if it exists, the sample beside it is complete."""
    with atomic_file(folder / TRUTH_FILE) as file:
        file.write(truth.model_dump_json().encode())


def read_truth(folder: Path) -> Truth:
    """Read truth.json. Raises ``UserError`` if it is missing or invalid."""
    path = folder / TRUTH_FILE
    if not path.exists():
        raise UserError(f"{path} does not exist; write the sample again")
    return read_record(path, Truth, _LARGEST, values=_LARGEST)


def ground_truth_of(seed: int, plan: Plan, verification: tuple[VerificationTruth, ...]) -> Truth:
    """The ground truth of a plan; images have the record keys 1, 2, ... in its order."""
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
            NonFace(key=key, kind=shot.non_face) for key, _, shot in images if shot.person is None
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
    """People with two labels; the first image of a label always shows its own person."""
    labels: dict[int, list[int]] = defaultdict(list)
    for label, shots in enumerate(plan):
        if shots[0].person is not None:
            labels[shots[0].person].append(label)
    return tuple(
        SplitPerson(person=person, labels=(rows[0], rows[1]))
        for person, rows in sorted(labels.items())
        if len(rows) == 2
    )


def _duplicates(keyed: KeyedPlan, fault: str) -> tuple[PlantedDuplicate, ...]:
    return tuple(
        PlantedDuplicate(key=key, original=row[shot.copy_of][0])
        for row in keyed
        for key, shot in row
        if shot.fault == fault and shot.copy_of is not None
    )

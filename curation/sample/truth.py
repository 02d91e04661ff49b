"""What the sample really shows: the answers to every question that curation asks of it."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from curation.errors import UserError
from curation.files import atomic_file
from curation.json_text import read_record

TRUTH_FILE = "truth.json"
_LARGEST = 64 << 20
"""Bytes; a hundred thousand identities of the sample take as much."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ImageTruth(_Model):
    """One image record: ``key`` in train.rec, ``label`` as written there, who it really shows.

    ``person`` is None where there is no face. ``fault`` is None or one of
    ``curation.sample.plan.FAULTS``.
    """

    key: int
    label: int
    person: int | None
    fault: str | None = None


class Duplicate(_Model):
    """The image ``key`` repeats the image ``original`` (keys in train.rec)."""

    key: int
    original: int


class NonFace(_Model):
    """An image of no face; ``kind`` is one of ``curation.sample.clutter.KINDS``."""

    key: int
    kind: str


class MixedIdentity(_Model):
    """Two people under one label; ``second_keys`` are the images of the smaller part."""

    label: int
    people: tuple[int, int]
    second_keys: tuple[int, ...]


class SplitPerson(_Model):
    """One person under two labels."""

    person: int
    labels: tuple[int, int]


class VerificationTruth(_Model):
    """The two people of every pair of ``NAME.bin``, in its order."""

    name: str
    people: tuple[tuple[int, int], ...]


class Truth(_Model):
    """Content of truth.json."""

    generator: int
    seed: int
    images: tuple[ImageTruth, ...]
    mislabelled: tuple[int, ...]
    mixed_identities: tuple[MixedIdentity, ...]
    split_people: tuple[SplitPerson, ...]
    exact_duplicates: tuple[Duplicate, ...]
    near_duplicates: tuple[Duplicate, ...]
    non_faces: tuple[NonFace, ...]
    verification: tuple[VerificationTruth, ...]


def write_truth(folder: Path, truth: Truth) -> None:
    """Write truth.json at once; where it exists, the sample beside it is complete."""
    with atomic_file(folder / TRUTH_FILE) as file:
        file.write(truth.model_dump_json().encode())


def read_truth(folder: Path) -> Truth:
    """Read truth.json. Raises ``UserError`` where it is missing or not what ``Truth`` says."""
    path = folder / TRUTH_FILE
    if not path.exists():
        raise UserError(f"{path} does not exist; write the sample again")
    return read_record(path, Truth, _LARGEST, values=_LARGEST)

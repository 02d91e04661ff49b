"""Writing images of a store or view as files, for viewing or for trying a network on them."""

from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.files import atomic_file
from curation.image_set import ImageSet
from curation.labels import UNLABELLED_FOLDER, each_alone
from curation.progress import Progress

SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png"}


def image_file_name(identity: int, number: int, data: bytes) -> Path:
    """``IDENTITY/NUMBER.jpg`` with leading zeros, or ``unlabelled/NUMBER.jpg`` if the identity is
    -1; the suffix depends on the bytes ``data``.
    """
    folder = UNLABELLED_FOLDER if identity < 0 else f"{identity:06d}"
    return Path(folder) / f"{number:08d}{SUFFIXES.get(data[:2], '.bin')}"


def write_images(
    images: ImageSet,
    folder: Path,
    identities: int | None = None,
    each: int | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``folder/IDENTITY/INDEX.jpg`` with the files' original bytes; returns the paths.

    Limited to the first ``identities`` identities and the first ``each`` images of each, if given.
    Images without a label follow, each as its own identity. Existing files are replaced.
    """
    for what, value in (("identities", identities), ("each", each)):
        if value is not None and value < 1:
            raise UserError(f"--{what} is {value}; allowed: 1 or more")
    chosen = _chosen(each_alone(images.labels), identities, each)
    paths = []
    for done, index in enumerate(chosen, start=1):
        data = images.read(index)
        path = folder / image_file_name(int(images.labels[index]), index, data)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(data)
        paths.append(path)
        if progress:
            progress(done, len(chosen))
    return paths


def _chosen(labels: np.ndarray, identities: int | None, each: int | None) -> list[int]:
    """The first images of the first identities, given their ascending ``labels`` ``[N]``."""
    place = np.arange(len(labels)) - np.searchsorted(labels, labels)
    keep = labels < (len(labels) if identities is None else identities)
    if each is not None:
        keep &= place < each
    found: list[int] = np.flatnonzero(keep).tolist()
    return found

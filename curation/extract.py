"""Images of a store or view as files, to look at or to try a network on."""

from pathlib import Path

from curation.errors import UserError
from curation.files import atomic_file
from curation.progress import Progress
from curation.store import ImageSet

SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png"}


def image_file_name(identity: int, number: int, data: bytes) -> Path:
    """``IDENTITY/NUMBER.jpg`` with leading zeros; the suffix is that of the bytes ``data``."""
    return Path(f"{identity:06d}") / f"{number:08d}{SUFFIXES.get(data[:2], '.bin')}"


def write_images(
    images: ImageSet,
    folder: Path,
    identities: int | None = None,
    each: int | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``folder/IDENTITY/INDEX.jpg``, the files' bytes as they are; the paths written.

    Only the first ``identities`` identities, and of each only the first ``each`` images, where
    these are said. A file that is there already is replaced.
    """
    for what, value in (("identities", identities), ("each", each)):
        if value is not None and value < 1:
            raise UserError(f"--{what} is {value}; allowed: 1 or more")
    chosen = [
        (identity, index)
        for identity in range(min(images.identities, identities or images.identities))
        for index in range(*_span(images, identity, each))
    ]
    paths = []
    for done, (identity, index) in enumerate(chosen, start=1):
        data = images.read(index)
        path = folder / image_file_name(identity, index, data)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(data)
        paths.append(path)
        if progress:
            progress(done, len(chosen))
    return paths


def _span(images: ImageSet, identity: int, each: int | None) -> tuple[int, int]:
    first, last = (int(bound) for bound in images.offsets[identity : identity + 2])
    return first, last if each is None else min(last, first + each)

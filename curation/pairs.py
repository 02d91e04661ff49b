"""Verification sets: pairs of face images, each genuine or impostor.

insightface's ``.bin`` is a pickle of (2P image files, P booleans), written by Python 2 or 3. The
image files are bytes, or numpy arrays of bytes from ``cv2.imencode``; the booleans are Python's,
numpy's, or an array. A pickle is a program, and these files come from the web, so nothing in them
is trusted: ``plain_pickle`` reads only data, and this module checks the shape and type of the
result.
"""

import hashlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import UserError
from curation.file_kinds import BEGINNING_BYTES, kind_of
from curation.files import atomic_file, read_whole
from curation.images import MAX_PIXELS, probe_size
from curation.plain_pickle import PlainArray, RefusedError, load_plain

MAX_FILE_BYTES = 1 << 29
"""The largest published set (CFP-FP, 7,000 pairs) has 70 MB."""
MAX_IMAGES = 1 << 20
"""The largest published set has 14,000"""
_LONGEST_REASON = 120
_WANTED = "a verification set (.bin)"


@dataclass(frozen=True)
class VerificationPairs:
    """P pairs: ``images[2 * i]`` and ``images[2 * i + 1]``, and whether they are the same person.

    ``images`` are image files of equal size; ``same`` is bool ``[P]``; ``digest`` is the SHA-256 of
    the ``.bin`` file, shown with every score; ``name`` is the file's, without ``.bin``. ``order``
    [P] has the place of each pair in the list that the set was read from; None if it is the same.
    """

    images: list[bytes] = field(repr=False)
    same: np.ndarray = field(repr=False)
    digest: str
    name: str
    order: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.same)

    @property
    def numbers(self) -> np.ndarray:
        """The number of each image, int64 [2P], in the file or list that the set was read from."""
        order = np.arange(len(self)) if self.order is None else self.order
        return (2 * order[:, None] + np.arange(2)).ravel()

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of every image."""
        return probe_size(self.images[0], f"{self.name}: image 0")


def pair_files_of(source: Path) -> tuple[Path, ...]:
    """The verification sets in the folder ``source``, or in the folder of the file."""
    folder = source if source.is_dir() else source.parent
    return tuple(sorted(folder.glob("*.bin")))


def read_pairs(path: Path) -> VerificationPairs:
    """Read a verification set without executing anything in it.

    Raises ``UserError`` if the file is missing, too large, not a pickle of a set, or contains
    anything besides images and booleans.
    """
    path = Path(path)
    data = read_whole(path, MAX_FILE_BYTES)
    content = _load(data, path)
    images, same = _check_content(content, path)
    return VerificationPairs(images, same, hashlib.sha256(data).hexdigest(), path.stem)


def write_pairs(path: Path, images: Sequence[bytes], same: Sequence[bool]) -> None:
    """Write 2P image files and P booleans as insightface's ``.bin`` (pickle protocol 4)."""
    if len(images) != 2 * len(same):
        raise ValueError(f"{len(images)} images, but two are needed for each of {len(same)} pairs")
    content = [bytes(image) for image in images], [bool(value) for value in same]
    with atomic_file(Path(path)) as file:
        pickle.dump(content, file, protocol=4)


def _load(data: bytes, path: Path) -> Any:
    kind = kind_of(data[:BEGINNING_BYTES])
    other = None if kind is None or kind.name == "pickle" else kind.refusal(path, _WANTED)
    # The oldest pickles are text, so a text file is tried.
    if kind is not None and other is not None and not kind.is_text:
        raise other
    try:
        return load_plain(data)
    except RefusedError as error:
        raise UserError(f"{path} is refused as a verification set: {error}") from None
    except Exception as error:  # an invalid pickle can raise nearly anything
        reason = str(error).partition(";")[0][:_LONGEST_REASON] or type(error).__name__
        raise other or UserError(
            f"{path} is not a verification set: {reason}; download or copy it again, or make one "
            "with `curate pairs`"
        ) from None


def _check_content(content: Any, path: Path) -> tuple[list[bytes], np.ndarray]:
    what = f"{path} is not a verification set"
    if not (isinstance(content, (tuple, list)) and len(content) == 2):
        raise UserError(f"{what}: it is not (images, same)")
    for part in content:
        count = prod(part.shape) if isinstance(part, PlainArray) else 0
        if count > MAX_IMAGES:
            raise UserError(f"{what}: it has an array of {count:,} items; at most {MAX_IMAGES:,}")
    images, same = _items(content[0]), _booleans(content[1])
    if images is None:
        raise UserError(f"{what}: images must be a list of image files")
    if same is None:
        raise UserError(f"{what}: same must be a list of booleans, True or False for each pair")
    if not len(same) or len(images) != 2 * len(same):
        raise UserError(
            f"{what}: {len(images):,} images, but two are needed for each of {len(same):,} pairs"
        )
    files = _image_files(images, path)
    _check_sizes(files, path)
    return files, same


def _items(value: Any) -> Sequence[Any] | None:
    """The items of a list or tuple, or of a numpy array of objects or bytes."""
    if isinstance(value, PlainArray):
        value = (value.items() or None) if len(value.shape) == 1 else None
    return value if isinstance(value, (tuple, list)) else None


def _booleans(value: Any) -> np.ndarray | None:
    """bool ``[P]`` from booleans, or numbers that are all 0 or 1; None from anything else."""
    items = _items(value)
    if items is not None:
        numbers = np.array([_boolean(item) for item in items], np.float64)
    else:
        found = value.numbers() if isinstance(value, PlainArray) else None
        if found is None:
            return None
        numbers = found
    return numbers == 1 if np.isin(numbers, (0, 1)).all() else None


def _boolean(item: Any) -> float:
    """0 or 1; -1 for anything else."""
    if isinstance(item, PlainArray):
        numbers = item.numbers()
        item = None if numbers is None or item.shape else numbers[0]
    return (
        float(item)
        if isinstance(item, (int, float, np.number, np.bool_)) and item in (0, 1)
        else -1.0
    )


def _image_files(images: Sequence[Any], path: Path) -> list[bytes]:
    """The image files; one that the pickle repeats by reference is copied only once."""
    files: dict[int, bytes] = {}
    for number, image in enumerate(images):
        if id(image) not in files:
            files[id(image)] = _image_file(image, f"{path}: image {number}")
    return [files[id(image)] for image in images]


def _image_file(image: Any, what: str) -> bytes:
    """The bytes of an image file, which may be an array of bytes in a row or a column."""
    if isinstance(image, (bytes, bytearray)):
        return bytes(image)
    if not isinstance(image, PlainArray) or not isinstance(image.data, bytes):
        raise UserError(f"{what} is a {type(image).__name__}; expected image files (bytes)")
    if image.type.code != "u1" or sorted(image.shape)[:-1] not in ([], [1]):
        shape = "x".join(map(str, image.shape))
        raise UserError(
            f"{what} is an array {image.type.code} of {shape}; expected the bytes of image files, "
            f"as returned by cv2.imencode"
        )
    return image.data


def _check_sizes(images: Sequence[bytes], path: Path) -> None:
    first = None
    for number, image in enumerate(images):
        what = f"{path}: image {number}"
        size = probe_size(image, what)
        first = first or size
        if size != first or size[0] * size[1] > MAX_PIXELS:
            raise UserError(
                f"{what} has {size[0]}x{size[1]} pixels, the first {first[0]}x{first[1]}"
            )

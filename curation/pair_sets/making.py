"""Makes a verification set from listed or drawn pairs, checking every image first."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from curation.bad_images import bad_image
from curation.errors import UserError
from curation.file_kinds import detect_kind
from curation.files import UnreadableError, read_whole
from curation.image_set import ImageSet
from curation.images import MAX_FILE_BYTES as MAX_IMAGE_BYTES
from curation.images import check_pixels, probe_size
from curation.missing_files import why_missing
from curation.pair_sets.drawing import draw_pairs
from curation.pair_sets.folds import in_folds
from curation.pair_sets.lists import ENDINGS, ListedPair, image_at, read_pair_list, with_endings
from curation.pair_sets.stored import StoredImages
from curation.pairs import MAX_FILE_BYTES, read_pairs, write_pairs
from curation.progress import Progress


@dataclass(frozen=True)
class PairSet:
    """2P image files of one size, whether each pair shows one person, and skipped pairs with
    reasons.

    ``order`` [P] has the place of each pair in the list, if the pairs were reordered into folds.
    """

    images: Sequence[bytes] = field(repr=False)
    same: np.ndarray = field(repr=False)
    left_out: tuple[str, ...] = ()
    order: np.ndarray | None = field(default=None, repr=False)


def pairs_of_list(
    path: Path,
    images: Path | ImageSet | None = None,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> PairSet:
    """The pairs that a list names (``pair_sets.lists``).

    ``images`` is the folder of its paths, or the store or view whose images it names
    (``pair_sets.stored``). ``skip_bad`` skips pairs whose images are missing, damaged or of another
    size; by default the first is an error. Progress counts pairs. Raises ``UserError``.
    """
    kept: list[tuple[bytes, bytes]] = []
    same: list[bool] = []
    left_out: list[str] = []
    size = 0
    listed, reader, hint = _opened(path, images)
    known: dict[frozenset[Path], ListedPair] = {}
    for done, pair in enumerate(listed, 1):
        wrong = _why_no_pair(pair, known)
        try:
            if wrong is not None:
                raise UserError(f"{path}: line {pair.line}: {wrong}")
            kept.append(_read(pair, reader, f"{path}: line {pair.line}"))
            same.append(pair.same)
        except UserError as error:
            if not skip_bad:
                others = hint if wrong is None else ""
                raise UserError(
                    f"{error}; correct the list,{others} or leave such pairs out with "
                    "`curate pairs --skip-bad`"
                ) from None
            left_out.append(str(error))
        else:
            size += sum(map(len, kept[-1]))
            _check_size(size, path)
        if progress is not None:
            progress(done, len(listed))
    if not kept:
        raise UserError(f"{path}: none of the {len(listed)} pairs is usable: {left_out[0]}")
    order = in_folds(same)
    files = [image for place in order.tolist() for image in kept[place]]
    is_reordered = bool((np.diff(order) < 0).any())
    return PairSet(
        files, np.array(same, bool)[order], tuple(left_out), order if is_reordered else None
    )


def _why_no_pair(pair: ListedPair, known: dict[frozenset[Path], ListedPair]) -> str | None:
    """Why a line of a list cannot be right; enters its pair into ``known``."""
    if pair.first == pair.second:
        return f"both images are {pair.first}; a pair has two different images"
    before = known.setdefault(frozenset((pair.first, pair.second)), pair)
    if before.same == pair.same:
        return None
    kinds = ["the same person" if each.same else "two people" for each in (before, pair)]
    return f"the pair shows {kinds[1]}, but {kinds[0]} on line {before.line}"


def drawn_pairs(
    images: ImageSet, count: int, seed: int, progress: Progress | None = None
) -> PairSet:
    """``count`` pairs of a store or view (``pair_sets.drawing``); progress counts images."""
    indices, same = draw_pairs(images, count, seed)
    rows = np.unique(indices)
    files: dict[int, bytes] = {}
    for row, data in zip(rows.tolist(), images.read_many(rows), strict=True):
        try:
            check_pixels(data, "the image")
        except UserError as error:
            raise bad_image(images, row, error) from None
        files[row] = data
        if progress is not None:
            progress(len(files), len(rows))
    return PairSet([files[row] for row in indices.ravel().tolist()], same)


def write_pair_set(path: Path, made: PairSet, replace: bool = False) -> bool:
    """Write the set to ``path``; False if the same set is already there.

    Raises ``UserError`` if another set is there and ``replace`` is False, or if the set is too
    large.
    """
    _check_size(sum(map(len, made.images)), path)
    if path.exists():
        if _is_same(path, made):
            return False
        if not replace:
            raise UserError(f"{path} exists and has other contents; --replace overwrites it")
    # Copies, because pickle writes a repeated object as a reference. Readers accept that, but many
    # pairs of few images would look like a pickle bomb.
    write_pairs(path, [bytes(bytearray(image)) for image in made.images], made.same.tolist())
    return True


def _check_size(size: int, path: Path) -> None:
    if size > MAX_FILE_BYTES:
        raise UserError(
            f"{path}: the images of the pairs have more than {MAX_FILE_BYTES:,} bytes, more than a "
            f"verification set may have; give fewer pairs"
        )


def _is_same(path: Path, made: PairSet) -> bool:
    try:
        there = read_pairs(path)
    except UserError:
        return False
    return np.array_equal(there.same, made.same) and there.images == list(made.images)


def _opened(
    path: Path, images: Path | ImageSet | None
) -> tuple[list[ListedPair], "_ImageReader | StoredImages", str]:
    """The pairs, the reader of their images, and a hint for missing images."""
    if not isinstance(images, ImageSet):
        hint = " give the folder that its paths are relative to (--images FOLDER),"
        return read_pair_list(path, images), _ImageReader(), hint
    listed = read_pair_list(path, Path(), has_numbers=True)
    words = (word for pair in listed for word in (pair.first, pair.second))
    return listed, StoredImages(images, words), ""


def _read(
    pair: ListedPair, reader: "_ImageReader | StoredImages", where: str
) -> tuple[bytes, bytes]:
    try:
        return reader.read(pair.first), reader.read(pair.second)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _hint(path: Path) -> str:
    """A possible reason why there is no file ``path``."""
    if path.suffix:
        return why_missing(path)
    hints = filter(None, map(why_missing, with_endings(path)))
    return next(hints, f" (nor with {', '.join(ENDINGS)})")


class _ImageReader:
    """Reads each image once; checks that it decodes and has the same size as the first."""

    def __init__(self) -> None:
        self._known: dict[Path, bytes | str] = {}
        self._size: tuple[int, int] | None = None

    def read(self, path: Path) -> bytes:
        if path not in self._known:
            try:
                self._known[path] = self._read(image_at(path))
            except UserError as error:
                self._known[path] = str(error)
        found = self._known[path]
        if isinstance(found, str):
            raise UserError(found)
        return found

    def _read(self, path: Path) -> bytes:
        try:
            data = read_whole(path, MAX_IMAGE_BYTES)
        except UnreadableError as error:
            kind = detect_kind(path)
            if kind is None:
                raise UserError(f"{error}{_hint(path)}") from None
            raise kind.refusal(path, "an image") from None
        size = probe_size(data, str(path))
        self._size = self._size or size
        if size != self._size:
            shown, wanted = ("x".join(map(str, one)) for one in (size, self._size))
            raise UserError(
                f"{path} has {shown} pixels, the first image {wanted}; all images of a set must "
                f"have the same size"
            )
        check_pixels(data, str(path))
        return data

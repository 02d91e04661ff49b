"""A folder of image files as a source: each subfolder is an identity.

If all images are in one folder without subfolders of images, they have no labels.
"""

import os
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from curation.environment import DATA_FILE
from curation.errors import UserError
from curation.labels import UNLABELLED, UNLABELLED_FOLDER
from curation.sources.image_files import ImageFile, ImageFiles
from curation.sources.opening import source

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png"})
LOOKS_LIKE_IMAGES = SUFFIXES | {".bmp", ".gif", ".heic", ".avif", ".tif", ".tiff", ".webp"}
"""The kinds that a store cannot hold are reported instead of ignored."""
SYSTEM_FOLDERS = ("@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found")
"""Folders that systems make beside the images of people, with thumbnails or copies of them"""
_NUMBERS = re.compile("[0-9]+")


def holds_images(root: Path) -> bool:
    """Whether ``root`` is a folder of images and not another kind of source."""
    wholes = (root / "train.rec", root / DATA_FILE)
    if not root.is_dir() or any(path.exists() or path.is_symlink() for path in wholes):
        return False
    return next(image_folders(root), None) is not None


@source("folder", "a folder IDENTITY/*.jpg, or of images without labels", holds_images)
def read_folder(root: Path) -> ImageFiles:
    """The image files below ``root`` at any depth, recognised by their suffix.

    Every folder with image files is an identity. Labels are 0, 1, ... in the order of the folders'
    paths, and keys number the files. Names sort in natural order: ``9`` comes before ``10``. Hidden
    files and folders, and ``SYSTEM_FOLDERS``, are ignored. A linked folder is read like a folder
    here, unless it leads back into ``root`` or to a folder already read. Images in
    ``root/unlabelled`` have no label. Images in ``root`` itself have none either if there are no
    others; otherwise they are bad records.
    Raises ``UserError`` if there are no images.
    """
    loose: list[str] = []
    inside = _files_in_folders(root, loose)
    files = ImageFiles("folder", root, root, inside, loose, are_folders_identities=True)
    if not files:
        bare = (ImageFile(i, UNLABELLED, name) for i, name in enumerate(loose))
        files = ImageFiles("folder", root, root, bare)
    if not files:
        raise UserError(
            f"{root} holds no images; expected {root}/IDENTITY/*.jpg or .png, or images without "
            f"labels in {root} itself"
        )
    return files


def _files_in_folders(root: Path, loose: list[str]) -> Iterator[ImageFile]:
    """The images in folders below ``root``; the names of those in ``root`` go to ``loose``."""
    keys, label = count(), 0
    for folder, names in image_folders(root):
        if folder == root:
            loose += names
            continue
        inside = folder.relative_to(root)
        is_labelled = inside.parts[0] != UNLABELLED_FOLDER
        its = label if is_labelled else UNLABELLED
        for name in names:
            yield ImageFile(next(keys), its, f"{inside}/{name}")
        label += is_labelled


def image_folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each folder with images, parents first, and the sorted names of its images.

    Ignores hidden folders and follows links once. Raises ``UserError`` if a folder is unreadable.
    """
    home = root.resolve()
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            if not _is_new(folder, root, home, seen):
                continue
            inside, images = _entries(folder)
        except OSError as error:
            raise UserError(f"{folder} cannot be read: {error.strerror}") from None
        waiting += [folder / name for name in sorted(inside, key=natural_order, reverse=True)]
        if images:
            images.sort(key=natural_order)
            yield folder, images


def _is_new(folder: Path, root: Path, home: Path, seen: set[tuple[int, int]]) -> bool:
    """False for a link to a folder that is read elsewhere or was read before; stops link cycles."""
    if folder != root and folder.is_symlink() and folder.resolve().is_relative_to(home):
        return False
    status = folder.stat()
    place = status.st_dev, status.st_ino
    if place in seen:
        return False
    seen.add(place)
    return True


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the subfolders and of the images in a folder."""
    inside: list[str] = []
    images: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] == "." or entry.name in SYSTEM_FOLDERS:
                continue
            if _is_folder(entry):
                inside.append(entry.name)
            elif Path(entry.name).suffix.lower() in LOOKS_LIKE_IMAGES:
                images.append(entry.name)
    return inside, images


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link cycle: reading it reports the error
        return False


def natural_order(name: str) -> str:
    """A sort key that orders numbers within names by value: ``9`` before ``10``.

    Each number is preceded by its digit count. Zero bytes, which no name contains, put numbers
    before letters. Names that differ only in leading zeros sort as text.
    """
    # Digits outside ASCII, such as \u00b2, count as letters here.
    return f"{_NUMBERS.sub(_with_length, name)}\0\0{name}"


def _with_length(number: re.Match[str]) -> str:
    digits = number[0].lstrip("0")
    return f"\0{chr(1 + len(digits))}{digits}"

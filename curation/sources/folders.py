"""A folder of image files as a source: the folder that a file lies in is its identity."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from curation.errors import UserError
from curation.sources.image_files import ImageFile, ImageFiles

SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


def read_folder(root: Path) -> ImageFiles:
    """The JPEG and PNG files below ``root``, by their suffix, whatever the nesting.

    Every folder with image files is an identity. Identities have the labels 0, 1, ... in the order
    of their paths, keys number the files; numbers within names count as numbers, so that ``9``
    comes before ``10``. Hidden files and folders are passed over. Raises ``UserError`` where there
    are no images, or some lie in ``root`` itself, which has no identity.
    """
    files: list[ImageFile] = []
    for label, (folder, names) in enumerate(_identities(root)):
        if folder == root:
            raise UserError(
                f"{root / names[0]} lies in no identity's folder; wanted is "
                f"{root}/IDENTITY/{names[0]}"
            )
        inside = folder.relative_to(root)
        files += [
            ImageFile(len(files) + i, label, str(inside / name)) for i, name in enumerate(names)
        ]
    if not files:
        raise UserError(f"{root} holds no images; wanted are {root}/IDENTITY/*.jpg or .png")
    return ImageFiles("folder", root, root, files)


def holds_images(root: Path) -> bool:
    """Whether there is an image somewhere below ``root``."""
    return next(_identities(root), None) is not None


def _identities(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders with images, in order, and the names of these."""
    for folder, inside, names in os.walk(root):
        inside[:] = sorted((name for name in inside if name[0] != "."), key=natural_order)
        images = [
            name for name in names if name[0] != "." and Path(name).suffix.lower() in SUFFIXES
        ]
        if images:
            yield Path(folder), sorted(images, key=natural_order)


def natural_order(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts names with numbers in them as people do: ``9`` before ``10``."""
    words = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(word), "") if word[0].isdigit() else (1, 0, word) for word in words], name

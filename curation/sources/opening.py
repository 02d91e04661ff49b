"""Which kind of source lies at a path."""

from pathlib import Path

from curation.errors import UserError
from curation.records.ms1m import RecordImages, find_source
from curation.sources import folders, lists
from curation.sources.image_source import ImageSource


def open_source(path: Path) -> ImageSource:
    """The images at ``path``: RecordIO, a folder with a folder for each identity, or a list.

    A folder with ``train.rec`` and a ``.rec`` file are RecordIO; a file with another suffix that
    ``curation.sources.lists`` knows is a list. Raises ``UserError`` saying what was looked for.
    """
    path = Path(path)
    if path.is_file() and path.suffix in lists.SUFFIXES:
        return lists.read_list(path)
    records = path.suffix == ".rec" or (path / "train.rec").exists()
    if path.is_dir() and not records:
        if folders.holds_images(path):
            return folders.read_folder(path)
        raise UserError(
            f"{path}: no train.rec and no images in it; give a folder with train.rec (and "
            "train.idx, property), a folder IDENTITY/*.jpg, a .rec file, or a .lst list"
        )
    return RecordImages(find_source(path))

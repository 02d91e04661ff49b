"""Which kind of source lies at a path."""

from pathlib import Path

from curation.environment import DATA_FILE
from curation.errors import UserError
from curation.file_kinds import what_is_this
from curation.records.ms1m import RecordImages, find_source
from curation.sources import folders, lists
from curation.sources.image_source import ImageSource

_WANTED = (
    "give a folder with train.rec (and train.idx, property), a folder IDENTITY/*.jpg, a .rec file, "
    "or a list of images (.lst, .txt, .csv)"
)


def open_source(path: Path) -> ImageSource:
    """The images at ``path``: RecordIO, a folder with a folder for each identity, or a list.

    A folder with ``train.rec``, a ``.rec`` file and one that begins as such are RecordIO; a file
    with another suffix that ``curation.sources.lists`` knows, and other text, is a list. Raises
    ``UserError`` saying what it is and what was looked for.
    """
    path = Path(path)
    records = path / "train.rec"
    if path.suffix != ".rec" and not records.exists() and not records.is_symlink():
        if path.is_dir():
            return _open_folder(path)
        kind = what_is_this(path)
        if path.suffix in lists.SUFFIXES or (kind is not None and kind.name in ("text", "csv")):
            return lists.read_list(path)
        if kind is not None and kind.name != "recordio":
            raise kind.refusal(path, "a training set")
    return RecordImages(find_source(path))


def _open_folder(path: Path) -> ImageSource:
    if (path / DATA_FILE).exists():
        kind = what_is_this(path)
        assert kind is not None
        raise kind.refusal(path, "RecordIO, a folder of images or a list")
    if folders.holds_images(path):
        return folders.read_folder(path)
    kind = what_is_this(path)
    if kind is not None:
        raise kind.refusal(path, "a training set")
    others = ", ".join(sorted(entry.name for entry in path.glob("*.rec"))[:3])
    there = f"; it holds {others}: give that file" if others else ""
    raise UserError(f"{path}: no train.rec and no images in it; {_WANTED}{there}")

"""Builds a store of aligned faces and a table from photographs; interruptible and resumable.

``NAME.faces.partial/`` holds the results so far. Once all photographs are done, the faces are
converted to a store like any other source.
"""

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, Protocol

from pydantic import ValidationError

from curation.conversion.convert import convert_source, disk_errors_explained
from curation.errors import UserError
from curation.files import UnreadableError, atomic_file, read_whole, sync_folder
from curation.labels import UNLABELLED
from curation.locks import locked
from curation.photographs.faces import FaceSettings, Which
from curation.photographs.kept_faces import KeptFaces, KeptFacesSource, read_rows
from curation.photographs.photograph import Photograph
from curation.photographs.sheet import write_sheet
from curation.photographs.table import count_fates, write_table
from curation.progress import Progress
from curation.sources.folders import image_folders
from curation.sources.image_source import SourceStamp
from curation.store import STAMP_FILE, Store

RUN_FILE = "run.json"
_MOST_STAMP_BYTES = 1 << 20
SUFFIX, _TABLE, _SHEET = ".lmdb", ".faces.tsv", ".faces.jpg"


class Cutter(Protocol):
    """Finds faces in photographs and cuts them out."""

    settings: FaceSettings
    digest: str
    """Digest of the detector"""

    def cut(self, paths: Iterable[Path]) -> Iterator[Photograph]:
        """The content of each photograph, in order."""
        ...


class Collected(NamedTuple):
    """A store of faces and the files next to it."""

    store: Store
    table: Path
    sheet: Path
    photographs: int
    fates: Counter[str]
    """Counts of faces by fate, and of photographs without faces; empty if the table is gone"""
    was_complete: bool


class _Photographs(NamedTuple):
    """The photographs of a folder."""

    names: list[str]
    labels: list[int]


def collect_faces(
    root: Path,
    destination: Path,
    cutter: Cutter,
    unlabelled: bool = False,
    progress: Progress | None = None,
) -> Collected:
    """Make the store ``destination`` of the faces in the photographs below ``root``.

    Folders with photographs are identities, as in ``sources.folders``; photographs in ``root``
    itself are unlabelled, and with ``unlabelled`` all are. Continues an interrupted run; does
    nothing if the store is complete and of the same photographs, detector and settings. Progress
    counts photographs. Raises ``UserError`` if there are no photographs, no face is kept,
    ``destination`` is something else or in use, or the disk is full.
    """
    destination = Path(destination).absolute()
    listed = _list(Path(root), unlabelled)
    stamp = _stamp(Path(root), listed, cutter)
    if destination.exists():
        return _existing(destination, listed, stamp)
    work = _beside(destination, ".faces.partial")
    with disk_errors_explained(destination):
        work.mkdir(parents=True, exist_ok=True)
        with locked(work):
            if destination.exists():  # another process finished it in the meantime
                return _existing(destination, listed, stamp)
            _check_resumable(work, stamp)
            _cut_all(Path(root), work, listed, cutter, progress)
            fates = _write(work, destination, listed)
            source = KeptFacesSource(Path(root), work, listed.names, stamp)
            if not len(source):
                shutil.rmtree(work)
                raise UserError(_nothing_kept(root, fates, destination))
            store = convert_source(source, destination)
            shutil.rmtree(work)
            sync_folder(destination.parent)
    return _collected(store, listed, fates, False)


def _list(root: Path, unlabelled: bool) -> _Photographs:
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; give the folder of the photographs")
    names: list[str] = []
    labels: list[int] = []
    identities = 0
    for folder, found in image_folders(root):
        files = [name for name in found if not _is_sheet(folder / name)]
        if not files:
            continue
        is_nobody = unlabelled or folder == root
        inside = folder.relative_to(root)
        names += [str(inside / name) for name in files]
        labels += [UNLABELLED if is_nobody else identities] * len(files)
        identities += not is_nobody
    if not names:
        raise UserError(
            f"{root} holds no photographs; expected {root}/PERSON/*.jpg, or *.jpg without labels; "
            f"PNG, WebP, TIFF, BMP and GIF are also read"
        )
    return _Photographs(names, labels)


def _is_sheet(path: Path) -> bool:
    """Whether this is the sheet of an earlier run whose store is among the photographs."""
    name = path.name.removesuffix(_SHEET)
    return name != path.name and path.with_name(name + _TABLE).exists()


def _stamp(root: Path, listed: _Photographs, cutter: Cutter) -> SourceStamp:
    """Identifies a run: photographs, detector, settings."""
    listing = hashlib.sha256(f"{cutter.digest}\n{cutter.settings.model_dump_json()}\n".encode())
    size = modified = 0
    for name, label in zip(listed.names, listed.labels, strict=True):
        try:
            status = (root / name).stat()
            its, when = status.st_size, status.st_mtime_ns
        except OSError:  # reading it reports the error
            its, when = 0, 0
        listing.update(f"{label} {its} {name}\n".encode("utf-8", "surrogateescape"))
        size, modified = size + its, max(modified, when)
    name = root.absolute().name
    return SourceStamp(name=name, size=size, modified_ns=modified, listing=listing.hexdigest())


def _beside(destination: Path, suffix: str) -> Path:
    return destination.with_name(destination.name.removesuffix(SUFFIX) + suffix)


def _existing(destination: Path, listed: _Photographs, stamp: SourceStamp) -> Collected:
    store = Store(destination)
    if _known(destination / STAMP_FILE) != _essence(stamp):
        raise UserError(
            f"{destination} exists and was made from other photographs, with another detector or "
            f"with other settings; choose another destination, or remove it"
        )
    table = _beside(destination, _TABLE)
    fates = count_fates(table) if table.exists() else Counter()
    return _collected(store, listed, fates, True)


def _collected(
    store: Store, listed: _Photographs, fates: Counter[str], complete: bool
) -> Collected:
    table, sheet = (_beside(store.path, suffix) for suffix in (_TABLE, _SHEET))
    return Collected(store, table, sheet, len(listed.names), fates, complete)


def _check_resumable(work: Path, stamp: SourceStamp) -> None:
    path = work / RUN_FILE
    if not path.exists():
        with atomic_file(path) as file:
            file.write(stamp.model_dump_json(indent=2).encode())
    elif _known(path) != _essence(stamp):
        raise UserError(
            f"{work} was started with other photographs, another detector or other settings; give "
            f"those again to continue, or remove it to start over"
        )


def _essence(stamp: SourceStamp) -> tuple[int, str | None]:
    return stamp.size, stamp.listing


def _known(path: Path) -> tuple[int, str | None] | None:
    """The recorded stamp of a run; None if it is missing or malformed."""
    try:
        content = read_whole(path, _MOST_STAMP_BYTES)
        return _essence(SourceStamp.model_validate_json(content))
    except (UnreadableError, ValidationError):
        return None


def _cut_all(
    root: Path, work: Path, listed: _Photographs, cutter: Cutter, progress: Progress | None
) -> None:
    total = len(listed.names)
    with KeptFaces(work) as kept:
        left = (root / name for name in listed.names[kept.done :])
        with closing(cutter.cut(left)) as photographs:  # type: ignore[type-var]
            for photograph in photographs:
                label = listed.labels[kept.done]
                kept.add(photograph, _labels(photograph, label, cutter.settings.faces))
                if progress is not None:
                    progress(kept.done, total)
        kept.sync()


def _labels(photograph: Photograph, label: int, which: Which) -> list[int]:
    """The label of each face, the largest first.

    If all faces are kept, the largest is the subject of the photograph and the others are
    unlabelled.
    """
    count = len(photograph.faces)
    if which == "all":
        return [label, *[UNLABELLED] * (count - 1)][:count]
    return [label] * count


def _write(work: Path, destination: Path, listed: _Photographs) -> Counter[str]:
    fates = write_table(_beside(destination, _TABLE), read_rows(work), listed.names)
    write_sheet(_beside(destination, _SHEET), work, read_rows(work), fates)
    return fates


def _nothing_kept(root: Path, fates: Counter[str], destination: Path) -> str:
    counts = ", ".join(f"{count:,} {fate}" for fate, count in fates.most_common())
    return (
        f"no face of the photographs in {root} was kept: {counts}; "
        f"{_beside(destination, _TABLE)} has the reasons; allow smaller, turned or less "
        "sharp faces, or give other photographs"
    )

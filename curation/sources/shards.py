"""The files of a sharded data set: a folder, a pattern, or a single file."""

import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Self

from curation.errors import UserError
from curation.file_kinds import detect_kind
from curation.sources.folders import natural_order
from curation.sources.image_source import SourceStamp

_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
_PART = re.compile(r"(.*?)(\d+)-of-(\d+)(.*)")
"""The name of a file that states how many there are"""
_MOST_OPEN = 64
_MOST = 100_000
"""Maximum files of one data set"""


def find_shards(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files with one of the ``suffixes`` at ``path``, in natural order; [] if there are none.

    ``path`` is a file, a folder with such files (or with such files in its folder ``data``), or a
    pattern with ``{0000..0099}``, ``{a,b}``, ``*`` or ``?``. Raises ``UserError`` if a pattern
    names too many files, or a missing one.
    """
    if path.is_dir():
        return _in_folder(path, suffixes) or _in_folder(path / "data", suffixes)
    if path.is_file():
        return [path] if _has_suffix(path.name, suffixes) else []
    named = str(path)
    if not _has_suffix(named, suffixes) or not re.search(r"[{*?\[]", named):
        return []
    found = [Path(name) for each in _without_braces(named) for name in _globbed(each)]
    return sorted(dict.fromkeys(found), key=lambda one: natural_order(str(one)))


class OpenShards:
    """A context manager that opens files by path on demand, at most ``_MOST_OPEN`` at a time."""

    def __init__(self) -> None:
        self._open: dict[Path, BinaryIO] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def __getitem__(self, path: Path) -> BinaryIO:
        if path not in self._open:
            if len(self._open) == _MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[path] = path.open("rb", buffering=1 << 14)
        return self._open[path]


def check_kind(shards: Sequence[Path], name: str, kinds: Sequence[str]) -> None:
    """``UserError`` if one of the ``shards`` is not a ``name``, by its kind of file."""
    for shard in shards:
        kind = detect_kind(shard)
        if kind is None or kind.name not in kinds:
            what = f"no {name}" if kind is None else f"{kind.what}, not a {name}"
            advice = "download it again" if kind is None else kind.advice
            raise UserError(f"{shard} is {what}; {advice}, or leave it out")


def stamp_of(path: Path, shards: Sequence[Path]) -> SourceStamp:
    """Sizes and modification times of all files, and the digest of their names and sizes."""
    listing, size, modified = hashlib.sha256(), 0, 0
    for shard in shards:
        status = shard.stat()
        name = shard.name.encode("utf-8", "surrogateescape")
        listing.update(b"%s\t%d\n" % (name, status.st_size))
        size, modified = size + status.st_size, max(modified, status.st_mtime_ns)
    return SourceStamp(name=path.name, size=size, modified_ns=modified, listing=listing.hexdigest())


def missing_parts(shards: Sequence[Path]) -> Iterator[str]:
    """The remarks that files such as ``train-00003-of-00080.parquet`` are missing, by the names of
    the others, or that files of different numberings are mixed.
    """
    sets: dict[tuple[str, str], dict[str, dict[int, str]]] = {}
    for shard in shards:
        if found := _PART.fullmatch(shard.name):
            before, number, count, behind = found.groups()
            place = f"{shard.parent / before}", behind
            sets.setdefault(place, {}).setdefault(count, {})[int(number)] = number
    for (before, behind), by_count in sets.items():
        if len(by_count) > 1:
            yield (
                f"{before}* has files numbered of {' and of '.join(sorted(by_count))}; if these "
                "are two copies of the data set, remove one, or its images occur twice"
            )
            continue
        [(count, numbers)] = by_count.items()
        first = int(int(count) in numbers)  # some count from 1
        if (missing := int(count) - len(numbers)) > 0:
            absent = next(i for i in itertools.count(first) if i not in numbers)
            width = len(next(iter(numbers.values())))
            yield (
                f"{missing:,} of {int(count):,} files are missing, such as "
                f"{before}{absent:0{width}}-of-{count}{behind}; get them if you want all images"
            )


def _has_suffix(name: str, suffixes: Sequence[str]) -> bool:
    return name.lower().endswith(tuple(suffixes))


def _in_folder(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    found = [
        entry
        for entry in folder.iterdir()
        if entry.name[0] != "." and _has_suffix(entry.name, suffixes) and entry.is_file()
    ]
    return sorted(found, key=lambda path: natural_order(path.name))


def _without_braces(pattern: str) -> list[str]:
    """The names to which a pattern with braces expands, as in a shell."""
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    first, last, words = found.groups()
    if words is None:
        if abs(int(last) - int(first)) >= _MOST:
            raise UserError(f"{pattern} names more than {_MOST:,} files")
        step = 1 if int(first) <= int(last) else -1
        numbers = range(int(first), int(last) + step, step)
        width = len(first) if first[0] == "0" or len(first) == len(last) else 0
        choices = [f"{number:0{width}}" for number in numbers]
    else:
        choices = words.split(",")
    before, behind = pattern[: found.start()], pattern[found.end() :]
    ends = _without_braces(behind)
    if len(choices) * len(ends) > _MOST:
        raise UserError(f"{pattern} names more than {_MOST:,} files")
    return [f"{before}{one}{end}" for one, end in itertools.product(choices, ends)]


def _globbed(pattern: str) -> list[str]:
    if not re.search(r"[*?\[]", pattern):
        if not Path(pattern).exists():
            raise UserError(f"{pattern} does not exist; correct the pattern, or add the file")
        return [pattern]
    where = Path(pattern)
    parent = Path(where.anchor) if where.is_absolute() else Path()
    found = parent.glob(str(where.relative_to(parent)))
    return [str(path) for path in itertools.islice(found, _MOST)]

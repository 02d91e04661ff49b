"""Where the labels of a source are: in the usual places, or where the user says."""

import unicodedata
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from curation.labels import UNLABELLED, UNLABELLED_FOLDER

LABEL_KEYS = (
    *("label", "labels", "cls", "class", "identity", "target", "class_id", "label_id"),
    *("identity_id", "person_id", "subject_id", "celeb_id", "person", "subject"),
)
"""Keys of JSON objects and columns of tables that hold labels, in order of preference; upper and
lower case are the same"""
_LABEL_COLUMNS = ("name", "id", "person_name", "identity_name", "class_name", "celebrity", "celeb")
"""Further names of the column next to that of the files; elsewhere they may be the image's"""
_SHOWN = 8


class LabelChoice(NamedTuple):
    """At most one of the two is given; without one, labels are in the usual places."""

    key: str = ""
    """A key of JSON objects or a column of a table; dots separate the keys of nested objects"""
    folder: int = 0
    """The name of the Nth folder above an image is its identity; 1 is the folder that holds it"""

    def label_in(self, value: object) -> object:
        """The label in a JSON object; None if it has none. Other values are labels themselves."""
        if self.key:
            for key in self.key.split("."):
                value = value.get(key) if isinstance(value, dict) else None
        elif isinstance(value, dict):
            found = usual_key(value)
            value = None if found is None else value[found]
        return single(value)


USUAL = LabelChoice()


def single(value: object) -> object:
    """The element of a list of one; other values unchanged."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def usual_key(names: Iterable[str]) -> str | None:
    """The name that a label usually has."""
    by_lower = {name.lower(): name for name in names}
    return next((by_lower[key] for key in LABEL_KEYS if key in by_lower), None)


def is_label_column(name: str) -> bool:
    """Whether the column next to that of the files holds labels, by its name."""
    return name.lower().replace(" ", "_") in (*LABEL_KEYS, *_LABEL_COLUMNS)


def no_label(what: str, names: Iterable[str], choice: LabelChoice) -> str:
    """The remark that none of ``names`` is that of a label; ``what`` each of them is: "column"."""
    shown = [name[:40] for name in names]
    more = ", ..." if len(shown) > _SHOWN else ""
    wanted = choice.key or f"{', '.join(LABEL_KEYS[:4])}, ..."
    return (
        f"no image has a label: no {what} is called {wanted}; `--label-key` takes another one: "
        f"{', '.join(shown[:_SHOWN])}{more}"
    )


class FolderLabels:
    """Labels from the folder of an image, numbered 0, 1, ... in order of appearance."""

    def __init__(self, level: int = 0) -> None:
        """``level`` is ``LabelChoice.folder``; with 0, the path of the folder is the identity."""
        self._level = level
        self._labels: dict[str, int] = {}

    def of(self, name: str) -> int:
        """The label of an image's name; -1 if it is in no such folder or below ``unlabelled``."""
        folder = name.rpartition("/")[0]
        if not folder or folder.split("/", 1)[0] == UNLABELLED_FOLDER:
            return UNLABELLED
        if self._level:
            parts = folder.rsplit("/", self._level)
            if len(parts) < self._level:
                return UNLABELLED
            folder = unicodedata.normalize("NFC", parts[-self._level])
        return self._labels.setdefault(folder, len(self._labels))

    def remarks(self) -> Iterator[str]:
        """See ``repeated_names``."""
        if not self._level:
            yield from repeated_names(self._labels)


def repeated_names(folders: Iterable[str]) -> Iterator[str]:
    """The remark that some of the folders, each an identity, have one name, such as ``train/anna``
    and ``test/anna`` or ``anna/frontal`` and ``ben/frontal``.
    """
    paths = list(folders)
    names = array("q", (hash(unicodedata.normalize("NFC", _last(path))) for path in paths))
    _, first, counts = np.unique(np.array(names, np.int64), return_index=True, return_counts=True)
    repeated = len(paths) - len(counts)
    if repeated:
        one = int(first[counts > 1].min())
        other = names.index(names[one], one + 1)
        yield (
            f"each folder is an identity, but {repeated:,} of {len(paths):,} have the name of an "
            f"earlier one, such as {paths[other]!r} and {paths[one]!r}; if it is the person's, use "
            "`--identity-folder 1`; if the folder above is the person's, "
            "`--identity-folder 2`"
        )


def _last(path: str) -> str:
    return path.rpartition("/")[2]

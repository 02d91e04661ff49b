"""A published evaluation: faces in files, and the measures of their features.

To add one, put a file into this package::

    @protocol("mine", "What it is, in a line")
    def open_mine(folder: Path, weights: TemplateWeights) -> ProtocolSet: ...

`distill evaluate MODEL mine:FOLDER` then accepts it. The reader must report every problem with the
files before a network runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from curation.errors import UserError
from curation.registry import check_unused, import_files
from curation.suggestions import unknown
from distill.evaluation.features import Embedded
from distill.evaluation.protocols.face_files import FaceFiles
from distill.evaluation.score_counts import ScoreCounts

PACKAGE = "distill.evaluation.protocols"
SEPARATOR = ":"


@dataclass(frozen=True)
class TemplateWeights:
    """Whether the norm of a feature and the detector's score weight an image in its template."""

    norm: bool = True
    detector: bool = True

    def of(self, embedded: Embedded, scores: np.ndarray) -> np.ndarray:
        """The weights [N] of unit features; ``scores`` [N] are the detector's."""
        norms = embedded.norms if self.norm else np.ones_like(embedded.norms)
        return norms * scores if self.detector else norms


class Score(Protocol):
    """Computes the JSON report of an evaluation."""

    def __call__(
        self, embedded: Embedded, intervals: bool, counts: ScoreCounts | None = None
    ) -> dict[str, Any]:
        """The report on the features of all faces, in order, with ``intervals`` if wanted.

        The scores of all verified pairs are added to ``counts``, for curves and histograms.
        """
        ...


def nothing_written(folder: Path) -> np.ndarray | None:
    """The default of ``ProtocolSet.written``: the protocol has no format for features."""
    return None


@dataclass(frozen=True)
class ProtocolSet:
    """One evaluation: ``score`` computes its measures from the features of ``faces``.

    ``written`` reads features [N, D] that the protocol's own tools wrote below a folder; it returns
    None if there are none. With ``has_blanks``, features that are zero mark faces to ignore.
    ``digest`` covers the lists and the images' names and sizes.
    """

    protocol: str
    name: str
    faces: FaceFiles
    score: Score
    written: Callable[[Path], np.ndarray | None] = nothing_written
    has_blanks: bool = False

    @property
    def digest(self) -> str:
        return self.faces.digest


Open = Callable[[Path, TemplateWeights], ProtocolSet]


@dataclass(frozen=True)
class _ProtocolReader:
    open: Open
    about: str


_READERS: dict[str, _ProtocolReader] = {}


def protocol(name: str, about: str) -> Callable[[Open], Open]:
    """Register a function that opens a protocol's folder; ``about`` describes it in one line."""

    def enter(made: Open) -> Open:
        before = _READERS.get(name)
        check_unused("protocol", name, before and before.open, made)
        _READERS[name] = _ProtocolReader(made, about)
        return made

    return enter


def protocols() -> dict[str, str]:
    """The registered protocols by name, with a one-line description."""
    import_files(PACKAGE)
    return {name: reader.about for name, reader in sorted(_READERS.items())}


def split_name(text: str) -> tuple[str, Path] | None:
    """The protocol and folder of ``NAME:FOLDER``; None if the text does not have this form."""
    name, separator, folder = text.partition(SEPARATOR)
    plain = name.replace("-", "").replace("_", "")
    if not separator or not folder or len(name) < 2 or not (plain.isascii() and plain.isalnum()):
        return None
    return name, Path(folder)


def open_named(text: str) -> ProtocolSet:
    """`open_protocol` of ``NAME:FOLDER``."""
    named = split_name(text)
    if named is None:
        raise UserError(f"{text} is not NAME:FOLDER; the protocols are {', '.join(protocols())}")
    return open_protocol(*named)


def open_protocol(
    name: str, folder: Path, weights: TemplateWeights = TemplateWeights()
) -> ProtocolSet:
    """Open a protocol's folder; `UserError` if the name is unknown or the files are invalid."""
    if name not in protocols():
        raise unknown("protocol", name, protocols())
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; {name} needs one: {protocols()[name]}")
    return _READERS[name].open(folder, weights)

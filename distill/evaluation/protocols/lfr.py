"""LFR 2019 (deepglint-light, iQIYI): images or videos in the order of ``filelist.txt``.

A line names an image, or the folder of a video with its frames (``*.jpg``); the unit features of
the frames are averaged. The challenge did not publish its labels, so ``labels.txt`` in the same
folder has your own: an integer per line, -1 for a distractor. Features can also be a submission:
``lfr.bin`` in the folder of embeddings, one matrix with all rows (`matrices`).
Source: insightface, ``challenges/iccv19-lfr``.
"""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import UserError
from curation.files import file_digest
from curation.labels import UNLABELLED
from distill.evaluation.all_pairs import pairs_with_distractors
from distill.evaluation.features import Embedded
from distill.evaluation.protocols.face_files import FaceFiles, visible_images
from distill.evaluation.protocols.labelled import check_labels
from distill.evaluation.protocols.matrices import read_matrix
from distill.evaluation.protocols.protocol import ProtocolSet, TemplateWeights, protocol
from distill.evaluation.protocols.tables import integer, is_inside, listed_lines
from distill.evaluation.score_counts import CountedScores, ScoreCounts
from distill.evaluation.templates import templates

_LIST, _LABELS, _SUBMISSION = "filelist.txt", "labels.txt", "lfr.bin"


@protocol("lfr", "LFR 2019: a folder with filelist.txt, its images or videos, and labels.txt")
def open_lfr(folder: Path, weights: TemplateWeights) -> ProtocolSet:
    listed = folder / _LIST
    entries = _entries(listed)
    labels = _labels(folder / _LABELS, len(entries))
    check_labels(labels, folder / _LABELS)
    frames = [_frames(folder / each, f"{listed}: line {line}") for line, each in entries]
    entry = np.repeat(np.arange(len(entries)), [len(each) for each in frames])
    listing = f"{file_digest(listed)} {file_digest(folder / _LABELS)}"
    paths = [path for each in frames for path in each]
    faces = FaceFiles(folder, paths, hashlib.sha256(listing.encode()).hexdigest())
    return ProtocolSet(
        "lfr", "lfr", faces, partial(score, labels, entry), partial(_written, len(entries))
    )


def score(
    labels: np.ndarray,
    entry: np.ndarray,
    embedded: Embedded,
    intervals: bool,
    counts: ScoreCounts | None = None,
) -> dict[str, Any]:
    """TAR at FAR over all pairs of labelled entries, and over each with every distractor.

    ``labels`` [E] are those of the entries; ``entry`` [N] is the entry of each face.
    """
    features = embedded.unit
    if len(features) == len(entry):  # a submission has one row per entry already
        features = templates(features, np.ones(len(entry)), entry, np.arange(len(entry)))
    people = labels != UNLABELLED
    verified = pairs_with_distractors(
        features[people],
        labels[people],
        features[~people],
        intervals=intervals,
        collectors=[] if counts is None else [CountedScores(counts)],
    )
    return {"kind": "distractors", **verified}


def _entries(path: Path) -> list[tuple[int, str]]:
    """The line number and name of each entry; ignores everything after the name."""
    if not path.exists():
        raise UserError(f"{path} is missing; give the folder that holds {_LIST} and {_LABELS}")
    found: dict[str, int] = {}
    for line, text in listed_lines(path, "a list of images or videos"):
        name = text.split()[0]
        if not is_inside(name):
            raise UserError(f"{path}: line {line}: {name[:60]!r} is not a name below {path.parent}")
        if (before := found.setdefault(name, line)) != line:
            raise UserError(f"{path}: line {line}: {name[:60]!r} is also on line {before}")
    if not found:
        raise UserError(f"{path} lists no images or videos")
    return [(line, name) for name, line in found.items()]


def _frames(path: Path, where: str) -> list[Path]:
    if not path.is_dir():
        return [path]
    frames = visible_images(path, (".jpg", ".png"))
    if not frames:
        raise UserError(f"{where}: the video {path.name!r} has no frames (*.jpg)")
    return frames


def _labels(path: Path, count: int) -> np.ndarray:
    if not path.exists():
        raise UserError(
            f"{path} is missing; LFR did not publish its labels, so write your own: a whole number "
            f"for each line of {_LIST}, -1 for a distractor"
        )
    labels = [
        integer(text.strip(), f"{path}: line {line}", "label")
        for line, text in listed_lines(path, "labels, a whole number per line")
    ]
    if len(labels) != count:
        raise UserError(f"{path} has {len(labels):,} labels, and {_LIST} {count:,} lines")
    return np.array(labels, np.int64)


def _written(count: int, folder: Path) -> np.ndarray | None:
    path = folder / _SUBMISSION
    if not path.is_file():
        return None
    return read_matrix(path, count)

"""MegaFace from the lists of insightface's test pack: FaceScrub among a million distractors.

======================================  =====================================================
``facescrub_lst``, ``megaface_lst``     paths, of which the last two (PERSON/IMAGE) and three
                                        parts are used
``facescrub_images/``, ``megaface_...`` the images
``facescrub_noises.txt``                names of mislabelled images; ``#`` starts a comment
``megaface_noises.txt``                 distractors who are in FaceScrub; in a line with a tab,
                                        the path is in the second column
======================================  =====================================================

Both kinds of noise are left out. (insightface's script replaces a noisy face of FaceScrub by the
sum of its person's features, which is always found, so its figures are higher.)

Features of the MegaFace tools can be used too: ``facescrub/PERSON/IMAGE_ALGO.bin`` and
``megaface/A/B/IMAGE_ALGO.bin`` (`matrices`). Cleaned features have one extra number: 100 for a
noisy distractor, otherwise 0. Source: insightface, ``recognition/_evaluation_/megaface``.
"""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import UserError
from curation.files import file_digest
from curation.labels import UNLABELLED
from curation.text_files import with_slashes
from distill.evaluation.all_pairs import pairs_with_distractors
from distill.evaluation.features import Embedded
from distill.evaluation.identification import among_distractors
from distill.evaluation.identify_sets import SIZES
from distill.evaluation.protocols.face_files import FaceFiles
from distill.evaluation.protocols.labelled import check_labels
from distill.evaluation.protocols.matrices import read_vector
from distill.evaluation.protocols.protocol import ProtocolSet, TemplateWeights, protocol
from distill.evaluation.protocols.tables import is_inside, listed_lines
from distill.evaluation.score_counts import CountedScores, ScoreCounts

_PARTS = {"facescrub": 2, "megaface": 3}
"""The number of trailing parts of a path that identify an image"""


@protocol("megaface", "MegaFace: a folder with facescrub_lst, megaface_lst and the images of both")
def open_megaface(folder: Path, weights: TemplateWeights) -> ProtocolSet:
    files = [folder / f"{each}_{what}" for each in _PARTS for what in ("lst", "noises.txt")]
    scrub = _without_noise(files[0], files[1], "facescrub")
    others = _without_noise(files[2], files[3], "megaface")
    people = {name: number for number, name in enumerate(sorted({_person(each) for each in scrub}))}
    labels = np.array([people[_person(each)] for each in scrub] + [UNLABELLED] * len(others))
    check_labels(labels, files[0])
    listing = "".join(f"{path.name} {file_digest(path)}\n" for path in files if path.exists())
    paths = [folder / "facescrub_images" / each for each in scrub]
    paths += [folder / "megaface_images" / each for each in others]
    faces = FaceFiles(folder, paths, hashlib.sha256(listing.encode()).hexdigest())
    names = [f"facescrub/{each}" for each in scrub] + [f"megaface/{each}" for each in others]
    return ProtocolSet(
        "megaface", "megaface", faces, partial(score, labels), partial(_written, names), True
    )


def score(
    labels: np.ndarray,
    embedded: Embedded,
    intervals: bool,
    counts: ScoreCounts | None = None,
) -> dict[str, Any]:
    """Rank 1 among the first n distractors, and TAR at FAR, for faces with ``labels`` [N]."""
    people = labels != UNLABELLED
    # Noisy distractors have zero features; see `_unmarked`.
    there = ~people & (embedded.norms > 0)
    features, others = embedded.unit[people], embedded.unit[there]
    found = among_distractors(features, labels[people], others, SIZES)
    verified = pairs_with_distractors(
        features,
        labels[people],
        others,
        intervals=intervals,
        collectors=[] if counts is None else [CountedScores(counts)],
    )
    return {"kind": "distractors", "among_distractors": found, **verified}


def _person(name: str) -> str:
    return name.split("/")[-2]


def _without_noise(path: Path, noise: Path, part: str) -> list[str]:
    """The images of the list ``path`` that are not in the list ``noise``, if that exists."""
    names, noises = _listed(path, part), _noises(noise, part)
    # The noise list of FaceScrub has names of images without folders.
    kept = [each for each in names if each not in noises and each.split("/")[-1] not in noises]
    if not kept:
        raise UserError(f"{path}: all of its images are listed as noise")
    if noises and len(kept) == len(names):
        raise UserError(
            f"{noise}: none of its {len(noises):,} images, such as {min(noises)[:60]!r}, is in "
            f"{path.name}; correct it or remove it"
        )
    return kept


def _listed(path: Path, part: str) -> list[str]:
    """The last parts of the listed paths."""
    if not path.exists():
        raise UserError(
            f"{path} is missing; give the folder that holds facescrub_lst, megaface_lst and the "
            "images of both"
        )
    names: dict[str, None] = {}
    for line, text in listed_lines(path, "a list of images"):
        parts = _last_parts(text, path, part)
        if len(parts) < _PARTS[part] or not all(parts) or not is_inside("/".join(parts)):
            raise UserError(
                f"{path}: line {line}: {text[:60]!r} does not end with "
                + ("PERSON/IMAGE" if part == "facescrub" else "FOLDER/FOLDER/IMAGE")
            )
        names["/".join(parts)] = None
    if not names:
        raise UserError(f"{path} names no images")
    return list(names)


def _noises(path: Path, part: str) -> set[str]:
    """The last parts of the listed paths; names without folders stay as they are."""
    if not path.exists():
        return set()
    words = (text.strip().split("\t") for _, text in listed_lines(path, "a list of noisy images"))
    paths = (each[min(1, len(each) - 1)] for each in words if not each[0].startswith("#"))
    return {"/".join(_last_parts(each, path, part)) for each in paths}


def _last_parts(text: str, path: Path, part: str) -> list[str]:
    return with_slashes(text.strip(), path.parent).split("/")[-_PARTS[part] :]


def _written(names: list[str], folder: Path) -> np.ndarray | None:
    """The features of all images; zeros for distractors that the tools marked as noisy."""
    first = folder / names[0]
    prefix = f"{first.name}_"
    if not first.parent.is_dir():
        return None
    found = [path for path in first.parent.iterdir() if path.name.startswith(prefix)]
    algorithms = sorted(each.name.removeprefix(prefix) for each in found if each.suffix == ".bin")
    if not algorithms:
        return None
    if len(algorithms) > 1:
        raise UserError(
            f"{first.parent} holds features of several networks ({', '.join(algorithms)}); give a "
            "folder with those of one network"
        )
    vectors = read_vector(folder / f"{names[0]}_{algorithms[0]}")
    features = np.empty((len(names), len(vectors)), np.float32)
    for row, name in enumerate(names):
        path = folder / f"{name}_{algorithms[0]}"
        features[row] = _fitting(read_vector(path), len(vectors), path)
    return _unmarked(features)


def _fitting(vector: np.ndarray, length: int, path: Path) -> np.ndarray:
    if len(vector) != length:
        raise UserError(f"{path}: it has {len(vector)} numbers, the first feature {length}")
    return vector


def _unmarked(features: np.ndarray) -> np.ndarray:
    """Remove the mark of cleaned features, their odd last column; zero the marked rows."""
    marks = features[:, -1]
    if features.shape[1] % 2 == 0 or not np.isin(marks, (0, 100)).all():
        return features
    unmarked = features[:, :-1].copy()
    unmarked[marks == 100] = 0
    return unmarked

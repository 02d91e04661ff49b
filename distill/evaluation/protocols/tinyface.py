"""TinyFace: faces of about 20 pixels, searched among 153,428 distractors.

``Testing_Set/`` has the folders ``Probe``, ``Gallery_Match`` and ``Gallery_Distractor``. The MATLAB
files ``probe_img_ID_pairs.mat`` (``probe_set``, ``probe_ids``) and
``gallery_match_img_ID_pairs.mat`` (``gallery_set``, ``gallery_ids``) have the identities. Without
them, the identity is the part of a file name before its first ``_``, as in CVLface.
Source: Cheng et al., ACCV 2018.
"""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import UserError
from curation.files import file_digest
from curation.labels import UNLABELLED
from curation.mat_files import read_mat
from curation.text_numbers import whole
from distill.evaluation.features import Embedded
from distill.evaluation.identification import closed_set, search
from distill.evaluation.protocols.face_files import FaceFiles, visible_images
from distill.evaluation.protocols.protocol import ProtocolSet, TemplateWeights, protocol
from distill.evaluation.protocols.tables import is_inside
from distill.evaluation.score_counts import ScoreCounts

_ENDINGS = (".jpg", ".jpeg", ".png")
_PROBE, _MATCH, _DISTRACTOR = "Probe", "Gallery_Match", "Gallery_Distractor"
_LISTS = {
    _PROBE: ("probe_img_ID_pairs.mat", "probe_set", "probe_ids"),
    _MATCH: ("gallery_match_img_ID_pairs.mat", "gallery_set", "gallery_ids"),
}


@protocol("tinyface", "TinyFace: a folder with Probe/, Gallery_Match/ and Gallery_Distractor/")
def open_tinyface(folder: Path, weights: TemplateWeights) -> ProtocolSet:
    places = (folder, folder / "Testing_Set")
    root = next((each for each in places if (each / _PROBE).is_dir()), None)
    if root is None:
        raise UserError(f"{folder} has no folder {_PROBE}; give TinyFace's Testing_Set")
    digest = hashlib.sha256()
    probes, probe_labels = _people(root, _PROBE, digest)
    mates, mate_labels = _people(root, _MATCH, digest)
    others = _images(root / _DISTRACTOR) if (root / _DISTRACTOR).is_dir() else []
    lonely = ~np.isin(probe_labels, mate_labels)
    if lonely.any():
        raise UserError(
            f"{probes[int(np.argmax(lonely))]}: {_MATCH} has no image of person "
            f"{probe_labels[lonely][0]} (probes without a mate: {int(lonely.sum()):,})"
        )
    faces = FaceFiles(root, [*probes, *mates, *others], digest.hexdigest())
    labels = np.concatenate([probe_labels, mate_labels, np.full(len(others), UNLABELLED)])
    return ProtocolSet("tinyface", "tinyface", faces, partial(score, labels, len(probes)))


def score(
    labels: np.ndarray,
    probes: int,
    embedded: Embedded,
    intervals: bool,
    counts: ScoreCounts | None = None,
) -> dict[str, Any]:
    """Identify the first ``probes`` faces among the others; ``labels`` [N]. Verifies no pairs."""
    features = embedded.unit
    found = search(features[:probes], labels[:probes], features[probes:], labels[probes:])
    return {
        "kind": "identification",
        "probes": probes,
        "enrolled": int((labels[probes:] != UNLABELLED).sum()),
        "distractors": int((labels[probes:] == UNLABELLED).sum()),
        "closed_set": closed_set(found),
    }


def _people(root: Path, part: str, digest: Any) -> tuple[list[Path], np.ndarray]:
    """The images of a folder and their identities, int64 [N]; adds the list to hash ``digest``."""
    name, images, people = _LISTS[part]
    listed = next((each / name for each in (root, root.parent) if (each / name).exists()), None)
    if listed is None:
        paths = _images(root / part)
        labels = [_label(path) for path in paths]
    else:
        digest.update(f"{name} {file_digest(listed)}\n".encode())
        names, labels = _listed(listed, images, people)
        paths = [root / part / each for each in names]
    if not paths:
        raise UserError(f"{root / part} has no images (*.jpg, *.jpeg, *.png)")
    return paths, np.array(labels, np.int64)


def _listed(path: Path, images: str, people: str) -> tuple[list[str], list[int]]:
    variables = read_mat(path)
    names, numbers = variables.get(images), variables.get(people)
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise UserError(f"{path}: {images} is missing, or is not a list of names")
    if not isinstance(numbers, np.ndarray) or len(numbers) != len(names):
        raise UserError(
            f"{path}: {people} is missing, or does not have one number for each of {images}"
        )
    texts = [str(each) for each in names]
    for each in texts:
        if not each or not is_inside(each):
            raise UserError(f"{path}: {each[:60]!r} is not the name of an image")
    are_whole = np.isfinite(numbers) & (numbers >= 0) & (numbers < 2**31)
    if not are_whole.all() or (numbers != np.floor(numbers)).any():
        raise UserError(f"{path}: {people} has a value that is not a whole number from 0")
    return texts, numbers.astype(np.int64).tolist()


def _label(path: Path) -> int:
    found = whole(path.name.split("_")[0], 9)
    if found is None:
        raise UserError(
            f"{path}: its name does not begin with the number of a person and '_'; put the .mat "
            "files of TinyFace beside the folders"
        )
    return found


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; give TinyFace's Testing_Set")
    return visible_images(folder, _ENDINGS)

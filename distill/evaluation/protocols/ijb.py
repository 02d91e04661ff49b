"""IJB-B and IJB-C from the lists of insightface's scripts: templates, 1:1 and 1:N.

The folder has ``loose_crop/`` with the images and ``meta/`` with these files, X = ijbb or ijbc:

=================================  ==========================================================
``X_face_tid_mid.txt``             name, template, medium
``X_name_5pts_score.txt``          name, x y of five points, the detector's score; the same images
                                   in the same order as the file above
``X_template_pair_label.txt``      template, template, 1 or 0
``X_1N_gallery_G1.csv``, ``G2``    (S1, S2 in IJB-B) header row, then template, subject, more
``X_1N_probe_mixed.csv``           the same
=================================  ==========================================================

1:N is skipped if none of its files exists. Source: insightface, ``ijb_evals.py``.
"""

import hashlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import UserError
from curation.files import file_digest
from curation.text_numbers import decimal
from distill.evaluation.features import Embedded
from distill.evaluation.protocols import published
from distill.evaluation.protocols.face_files import FaceFiles
from distill.evaluation.protocols.protocol import ProtocolSet, TemplateWeights, protocol
from distill.evaluation.protocols.tables import (
    first_two_columns,
    integer,
    is_inside,
    rows,
    whole_numbers,
)
from distill.evaluation.rates import plan_rates
from distill.evaluation.score_counts import ScoreCounts
from distill.evaluation.template_sets import TemplateGallery, identify_templates, verify_templates
from distill.evaluation.templates import templates

_IMAGES, _META = "loose_crop", "meta"
_GALLERIES = {"ijbb": ("S1", "S2"), "ijbc": ("G1", "G2")}
_MOST_COORDINATE = 1e6


@protocol("ijbb", "IJB-B: a folder with meta/ and loose_crop/")
def open_ijbb(folder: Path, weights: TemplateWeights) -> ProtocolSet:
    return _open("ijbb", folder, weights)


@protocol("ijbc", "IJB-C: a folder with meta/ and loose_crop/")
def open_ijbc(folder: Path, weights: TemplateWeights) -> ProtocolSet:
    return _open("ijbc", folder, weights)


@dataclass(frozen=True)
class Lists:
    """N images with template [N], medium [N] and detector score [N], and pairs of templates.

    ``numbers`` [T] are the numbers of the templates; ``pairs`` [P, 2], ``probes`` and ``galleries``
    are indices into it.
    """

    template: np.ndarray
    medium: np.ndarray
    scores: np.ndarray
    numbers: np.ndarray
    pairs: np.ndarray = field(repr=False)
    same: np.ndarray = field(repr=False)
    probes: TemplateGallery | None = None
    galleries: dict[str, TemplateGallery] = field(default_factory=dict)


def _open(name: str, folder: Path, weights: TemplateWeights) -> ProtocolSet:
    root = _root(name, folder)
    meta = root / _META
    names, template, medium = _media(meta / f"{name}_face_tid_mid.txt")
    points, scores = _faces(meta / f"{name}_name_5pts_score.txt", names)
    numbers = np.unique(template)
    if weights.detector:
        _check_scores(template, scores, meta / f"{name}_name_5pts_score.txt")
    pairs, same = _pairs(meta / f"{name}_template_pair_label.txt", numbers)
    probes, galleries = _searches(name, meta, numbers)
    files = sorted(path for path in meta.iterdir() if path.name.startswith(f"{name}_"))
    listing = "".join(f"{path.name} {file_digest(path)}\n" for path in files if path.is_file())
    digest = hashlib.sha256(f"{listing}{weights}".encode()).hexdigest()
    faces = FaceFiles(root, [root / _IMAGES / each for each in names], digest, points)
    lists = Lists(template, medium, scores, numbers, pairs, same, probes, galleries)
    return ProtocolSet(name, name, faces, partial(score, lists, weights))


def score(
    lists: Lists,
    weights: TemplateWeights,
    embedded: Embedded,
    intervals: bool,
    counts: ScoreCounts | None = None,
) -> dict[str, Any]:
    """Verify the listed pairs and identify the probes in each gallery.

    ``published`` has the figures by the rules of insightface's script, which papers report.
    """
    weighed = weights.of(embedded, lists.scores)
    features = templates(embedded.unit, weighed, lists.template, lists.medium)
    verified = verify_templates(features, lists.pairs, lists.same, intervals)
    if counts is not None:
        counts.add(verified.cosines, lists.same)
    report: dict[str, Any] = {
        "kind": "templates",
        "images": len(lists.template),
        "templates": len(lists.numbers),
        "weights": {"norm": weights.norm, "detector": weights.detector},
        **verified.report,
    }
    papers: dict[str, Any] = {"tar": published.tar_at_nearest(verified.cosines, lists.same)}
    if lists.probes is not None:
        report["galleries"], found = identify_templates(features, lists.probes, lists.galleries)
        papers |= published.identification(found, len(lists.probes.templates))
    return {**report, "published": papers}


def _root(name: str, folder: Path) -> Path:
    """The folder with meta/: ``folder`` itself, or IJBC/ in it."""
    wanted = f"{name}_face_tid_mid.txt"
    for root in (folder, folder / name.upper(), folder / name):
        if (root / _META / wanted).exists():
            return root
    other = next(each for each in _GALLERIES if each != name)
    if (folder / _META / f"{other}_face_tid_mid.txt").exists():
        raise UserError(f"{folder} has the lists of {other}; give {other}:{folder}")
    raise UserError(
        f"{folder} has no {_META}/{wanted}; give the folder that holds {_META}/ and {_IMAGES}/"
    )


def _media(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, templates [N] and media [N] of the images."""
    names, numbers = [], []
    for line, (name, template, medium) in rows(path, 3, "name, template, medium"):
        where = f"{path}: line {line}"
        if not is_inside(name):
            raise UserError(f"{where}: {name[:60]!r} is not a name below {_IMAGES}/")
        names.append(name)
        numbers.append((integer(template, where, "template"), integer(medium, where, "medium")))
    if not names:
        raise UserError(f"{path} names no images; expected lines: name, template, medium")
    template, medium = np.array(numbers, np.int64).T
    return names, template, medium


def _faces(path: Path, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 5, 2] and scores [N]; `UserError` if the images differ from ``names``."""
    values = np.empty((len(names), 11))
    wanted = "name, x y of five points, score"
    number = -1
    for number, (line, (name, *words)) in enumerate(rows(path, 12, wanted)):
        where = f"{path}: line {line}"
        if number >= len(names):
            raise UserError(
                f"{where}: the file has more images than the {len(names):,} of the templates' list"
            )
        if name != names[number]:
            raise UserError(
                f"{where}: {name[:60]!r}, but that line of the templates' list is "
                f"{names[number]!r}; both files have the same images line by line"
            )
        found = [each for each in map(decimal, words) if each is not None]
        if len(found) < len(words):
            raise UserError(f"{where}: {' '.join(words)[:60]!r}; expected: {wanted}")
        values[number] = found
    if number + 1 < len(names):
        raise UserError(
            f"{path} has {number + 1:,} images, the templates' list {len(names):,}; both files "
            "have the same images line by line"
        )
    wrong = ~(np.isfinite(values).all(axis=1) & (np.abs(values) < _MOST_COORDINATE).all(axis=1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(f"{path}: the numbers of {names[row]!r} cannot be points and a score")
    if (values[:, -1] < 0).any():
        raise UserError(f"{path}: {names[int(np.argmin(values[:, -1]))]!r} has a negative score")
    points = values[:, :-1].reshape(-1, 5, 2)
    coincide = (points == points[:, :1]).all(axis=(1, 2))
    if coincide.any():
        raise UserError(f"{path}: the five points of {names[int(np.argmax(coincide))]!r} coincide")
    return points, values[:, -1].astype(np.float32)


def _check_scores(template: np.ndarray, scores: np.ndarray, path: Path) -> None:
    """Raise `UserError` if all images of a template have the score, and so the weight, 0."""
    weightless = np.setdiff1d(template, template[scores > 0])
    if len(weightless):
        raise UserError(
            f"{path}: all images of template {weightless[0]} have the score 0 "
            f"(such templates: {len(weightless):,}); weight images without it "
            "(--template-weights norm)"
        )


def _pairs(path: Path, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Template indices of the pairs, int32 [P, 2], and whether they are genuine, [P]."""
    listed = whole_numbers(path, 3, "template, template, 1 or 0")
    labels = listed[:, 2]
    if not np.isin(labels, (0, 1)).all():
        row = int(np.argmax(~np.isin(labels, (0, 1))))
        raise UserError(f"{path}: the label of pair {row + 1} is {labels[row]}; allowed: 1 and 0")
    same = labels == 1
    for kind, there in (("genuine", same.any()), ("impostor", not same.all())):
        if not there:
            raise UserError(
                f"{path}: none of its {len(same):,} pairs is {kind}; list pairs of both kinds"
            )
    rates = plan_rates(int(same.sum()), int((~same).sum()))
    if all(rate.reason is not None for rate in rates):
        raise UserError(f"{path}: no TAR can be measured at any FAR: {rates[0].reason}")
    itself = (listed[:, 0] == listed[:, 1]) & ~same
    if itself.any():
        row = int(np.argmax(itself))
        raise UserError(
            f"{path}: pair {row + 1} is template {listed[row, 0]} with itself, labelled 0; "
            "correct the list"
        )
    return _places(listed[:, :2], numbers, path), same


def _places(listed: np.ndarray, numbers: np.ndarray, path: Path) -> np.ndarray:
    found = np.minimum(np.searchsorted(numbers, listed), len(numbers) - 1)
    unknown = numbers[found] != listed
    if unknown.any():
        row = int(np.argmax(unknown.reshape(len(listed), -1).any(axis=1)))
        first = int(listed[unknown][0])
        raise UserError(
            f"{path}: template {first} (row {row + 1}) has no image in the templates' list; its "
            f"templates are {numbers[0]} to {numbers[-1]}"
        )
    return found.astype(np.int32)


def _searches(
    name: str, meta: Path, numbers: np.ndarray
) -> tuple[TemplateGallery | None, dict[str, TemplateGallery]]:
    files = {each: meta / f"{name}_1N_gallery_{each}.csv" for each in _GALLERIES[name]}
    mixed = meta / f"{name}_1N_probe_mixed.csv"
    there = [path for path in (mixed, *files.values()) if path.exists()]
    if not there:
        return None, {}
    if len(there) < 3:
        missing = next(path for path in (mixed, *files.values()) if not path.exists())
        raise UserError(
            f"{missing} is missing, although {there[0].name} exists; give all three files of "
            "1:N, or none"
        )
    probes = _gallery(mixed, numbers)
    galleries = {each: _gallery(path, numbers) for each, path in files.items()}
    for each, gallery in galleries.items():
        if not np.isin(probes.subjects, gallery.subjects).any():
            raise UserError(f"{files[each]}: none of its subjects is in {mixed.name}")
        shared = np.intersect1d(probes.templates, gallery.templates)
        if len(shared):
            raise UserError(
                f"{files[each]}: template {numbers[shared[0]]} is also in {mixed.name} "
                f"({len(shared):,} are) and would find itself; correct the lists"
            )
    return probes, galleries


def _gallery(path: Path, numbers: np.ndarray) -> TemplateGallery:
    """The distinct templates of the file, with their subjects."""
    subject: dict[int, int] = {}
    for line, template, person in first_two_columns(path, "template, subject, ..."):
        if subject.setdefault(template, person) != person:
            raise UserError(
                f"{path}: line {line}: template {template} is of subject {person}, and of "
                f"{subject[template]} before"
            )
        if person < 0:
            raise UserError(f"{path}: line {line}: {person} is not a subject")
    if not subject:
        raise UserError(f"{path} names no templates; expected lines: template, subject, ...")
    listed = np.array(sorted(subject), np.int64)
    people = np.array([subject[each] for each in listed.tolist()], np.int64)
    return TemplateGallery(_places(listed, numbers, path), people)

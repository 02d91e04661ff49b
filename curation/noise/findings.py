"""Stores the findings of the checks in ``NAME.findings/``.

``findings.json`` identifies the images and embeddings and summarises each check, whose arrays are
in ``CHECK.npz``. A check's file is written when the check is done, so an interrupted analysis
resumes with the next check.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, FailFast, Field, model_validator

from curation.array_archives import read_arrays
from curation.errors import UserError
from curation.files import UnreadableError, atomic_file
from curation.image_set import ImageSet
from curation.json_text import read_record

FINDINGS_FILE = "findings.json"
Subject = Literal["image", "identity"]
_EVIDENCE, _IMAGES = "evidence.", "images."
_LONGEST_META = 4 << 20
CHECK_NAME = "[a-z][a-z0-9_-]{0,63}"
_Count = Annotated[int, Field(ge=0, lt=1 << 31)]


@dataclass(frozen=True)
class Finding:
    """The result of one check. Arrays have one element per subject ``[S]``, in the same order."""

    check: str
    """Name of the check, such as "misplaced" """
    subject: Subject
    subjects: np.ndarray
    """int64 ``[S]``: indices of images or identities of the image set"""
    scores: np.ndarray
    """float32 ``[S]``: the probability of an error, 0 to 1"""
    flagged: np.ndarray
    """bool ``[S]``"""
    evidence: Mapping[str, np.ndarray]
    """The reasons for the score, each ``[S]``; the check's docstring names the columns"""
    summary: str
    """One sentence for people"""
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Arrays ``[N]`` over all images of the set, if the subjects are identities"""
    identity: str = ""
    """The check, and a digest of images, teacher and arrays; decisions refer to it.

    Set on reading
    """

    def worst(self, count: int) -> np.ndarray:
        """Positions of the flagged subjects with the highest scores, highest first."""
        order = np.argsort(-self.scores, kind="stable")
        return order[self.flagged[order]][:count]

    def borderline(self, count: int) -> np.ndarray:
        """Positions nearest to the flag's threshold on both sides: lowest flagged first."""
        order = np.argsort(-self.scores, kind="stable")
        is_flagged = self.flagged[order]
        above = order[is_flagged][::-1][: count - count // 2]
        below = order[~is_flagged][: count // 2]
        return np.concatenate([above, below])


class CheckSummary(BaseModel):
    """The entry of a check in ``findings.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    check: str = Field(pattern=f"^{CHECK_NAME}$")
    subject: Subject
    scored: _Count
    flagged: _Count
    summary: str
    seconds: float = Field(ge=0)


class FindingsMeta(BaseModel):
    """The content of ``findings.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: Literal[1]
    images_name: str
    images_digest: str
    """Digest of the store or view that was checked"""
    embeddings_digest: str
    """Digest of teacher, preprocessing and store"""
    evaluation: dict[str, str]
    """Name and digest of the evaluation sets that the images were compared with"""
    images: _Count
    identities: _Count
    """Each unlabelled image counts as one, numbered after the others"""
    search: str | None = None
    """The index over the identities' prototypes and its measured recall"""
    checks: Annotated[tuple[CheckSummary, ...], FailFast()] = ()

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        for name, count in Counter(entry.check for entry in self.checks).items():
            if count > 1:
                raise ValueError(f"the check {name} occurs {count} times")
        for entry in self.checks:
            most = self.images if entry.subject == "image" else self.identities
            if not entry.flagged <= entry.scored <= most:
                raise ValueError(
                    f"{entry.check} has {entry.flagged} flagged of {entry.scored} scored "
                    f"of {most} in all"
                )
        return self


class Findings:
    """A folder of findings, read check by check and verified.

    ``images`` is the expected image set. Raises ``UserError`` if the folder is missing, damaged, or
    belongs to other images.
    """

    def __init__(self, path: Path, images: ImageSet | None = None) -> None:
        self.path = Path(path)
        self.meta = read_meta(self.path)
        if images is not None:
            _check_about(self.path, self.meta, images)

    @property
    def checks(self) -> tuple[str, ...]:
        """The names of the completed checks, in order."""
        return tuple(entry.check for entry in self.meta.checks)

    def load(self, check: str) -> Finding:
        """The finding of ``check``; ``UserError`` if it is missing or cannot be read."""
        if check not in self.checks:
            raise UserError(f"{self.path} has no check {check!r}; done: {', '.join(self.checks)}")
        summary = self.meta.checks[self.checks.index(check)]
        path = self.path / f"{check}.npz"
        largest = 8 * max(self.meta.images, self.meta.identities, 1)
        try:
            finding = _finding(path, summary, read_arrays(path, largest))
            _check_arrays(finding, self.meta)
        except UnreadableError as error:
            raise damaged(path, error.reason) from None
        except ValueError as error:
            raise damaged(path, error) from None
        return replace(finding, identity=_identity(finding, self.meta))


class _Columns(dict[str, np.ndarray]):
    """Arrays by name; a missing one means that the file is damaged."""

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__(arrays)
        self._path = path

    def __missing__(self, name: str) -> np.ndarray:
        raise damaged(self._path, f"it has no {name}")


def damaged(path: Path, how: object) -> UserError:
    """The error for a damaged file of findings."""
    return UserError(f"{path} is missing or damaged: {how}; check again")


def save_finding(path: Path, finding: Finding) -> None:
    """Write ``CHECK.npz``; it is valid once ``save_meta`` has written its summary."""
    arrays: dict[str, Any] = _arrays(finding)
    with atomic_file(path / f"{finding.check}.npz") as file:
        np.savez_compressed(file, **arrays)


def _arrays(finding: Finding) -> dict[str, np.ndarray]:
    """All arrays of a finding under their names in the file."""
    return {
        "subjects": finding.subjects,
        "scores": finding.scores,
        "flagged": finding.flagged,
        **{f"{_EVIDENCE}{name}": array for name, array in finding.evidence.items()},
        **{f"{_IMAGES}{name}": array for name, array in finding.images.items()},
    }


def save_meta(path: Path, meta: FindingsMeta) -> None:
    """Write ``findings.json``."""
    with atomic_file(path / FINDINGS_FILE) as file:
        file.write(meta.model_dump_json(indent=2).encode())


def findings_folder(images: ImageSet) -> Path:
    """``NAME.findings`` of a store or view."""
    return images.path.with_name(f"{images.name}.findings")


def read_meta(path: Path) -> FindingsMeta:
    """``findings.json`` of a folder; ``UserError`` if it is missing or damaged."""
    if path.is_dir() and not (path / FINDINGS_FILE).exists():
        raise UserError(f"{path} has no {FINDINGS_FILE}; run `curate check` to make them")
    try:
        return read_record(path / FINDINGS_FILE, FindingsMeta, _LONGEST_META)
    except UserError as error:
        raise UserError(f"{error}; check again") from None


def _check_about(path: Path, meta: FindingsMeta, images: ImageSet) -> None:
    if meta.images_digest != images.digest:
        raise UserError(
            f"{path} is about other images than {images.path} holds now (digest "
            f"{meta.images_digest[:12]}, these have {images.digest[:12]}); "
            "run `curate check` again"
        )
    identities = images.identities + images.unlabelled
    if (meta.images, meta.identities) != (len(images), identities):
        raise UserError(
            f"{path / FINDINGS_FILE} is damaged: {meta.images:,} images of {meta.identities:,} "
            f"identities, but {images.path} has {len(images)} of {identities}; check again"
        )


def _finding(path: Path, summary: CheckSummary, arrays: Mapping[str, np.ndarray]) -> Finding:
    def begins(prefix: str) -> _Columns:
        named = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
        return _Columns(path, named)

    columns = _Columns(path, arrays)
    return Finding(
        summary.check,
        summary.subject,
        columns["subjects"],
        columns["scores"],
        columns["flagged"],
        begins(_EVIDENCE),
        summary.summary,
        begins(_IMAGES),
    )


def _check_arrays(finding: Finding, meta: FindingsMeta) -> None:
    """Raise ``ValueError`` if an array does not fit the summary or the other arrays."""
    summary = next(entry for entry in meta.checks if entry.check == finding.check)
    for name, array in _arrays(finding).items():
        if name.startswith(_IMAGES):
            continue
        if array.shape != (summary.scored,):
            raise ValueError(
                f"its arrays do not fit its summary: {name} is {list(array.shape)}, "
                f"and {summary.scored} subjects were scored"
            )
        if array.dtype.kind not in ("b" if name == "flagged" else "iuf"):
            raise ValueError(f"{name} holds {array.dtype}, expected numbers")
    for name, array in finding.images.items():
        _check_indices(f"{_IMAGES}{name}", array, 1 << 31, least=0)
        if array.shape != (meta.images,):
            raise ValueError(f"{_IMAGES}{name} is {list(array.shape)}; expected [{meta.images}]")
    most = meta.images if finding.subject == "image" else meta.identities
    _check_indices("subjects", finding.subjects, most, least=0)
    is_ascending = (np.diff(finding.subjects) > 0).all()
    if not is_ascending and len(np.unique(finding.subjects)) < len(finding.subjects):
        raise ValueError("subjects has a duplicate")
    scores = finding.scores
    if scores.dtype.kind != "f" or not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("scores must be numbers from 0 to 1")
    if finding.flagged.dtype.kind != "b" or finding.flagged.sum() != summary.flagged:
        raise ValueError(f"flagged is not bool with {summary.flagged} true")


def require_indices(finding: Finding, column: str, limit: int = 1 << 31, least: int = 0) -> None:
    """Raise ``ValueError`` if an evidence column has values outside ``least`` to ``limit - 1``.

    A missing column is accepted.
    """
    if column in finding.evidence:
        _check_indices(f"{_EVIDENCE}{column}", finding.evidence[column], limit, least)


def _check_indices(name: str, array: np.ndarray, limit: int, least: int) -> None:
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} holds {array.dtype}, expected whole numbers")
    if len(array) and not (least <= int(array.min()) and int(array.max()) < limit):
        raise ValueError(
            f"{name} has {array.min()} to {array.max()}; allowed: {least} to {limit - 1}"
        )


def _identity(finding: Finding, meta: FindingsMeta) -> str:
    digest = hashlib.sha256()
    for text in (meta.images_digest, meta.embeddings_digest, finding.check):
        digest.update(f"{text}\n".encode())
    for name, array in sorted(_arrays(finding).items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return f"{finding.check}-{digest.hexdigest()[:12]}"

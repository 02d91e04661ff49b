"""What the checks found: ``NAME.findings/``.

``findings.json`` says which images were looked at, through whose eyes, and what each check
summed up; each check's arrays lie beside it in ``CHECK.npz``. A check's file is written when the
check is done, so an analysis that was stopped goes on with the next check.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from curation.errors import UserError
from curation.files import atomic_file

FINDINGS_FILE = "findings.json"
Subject = Literal["image", "identity"]
_EVIDENCE, _IMAGES = "evidence.", "images."
DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zlib.error, BadZipFile)
"""What reading arrays can raise where bytes of the file are wrong"""


@dataclass(frozen=True)
class Finding:
    """One check's result; all arrays of ``subjects``' length ``[S]``, in its order."""

    check: str
    """Name of the check, such as "misplaced" """
    subject: Subject
    subjects: np.ndarray
    """int64 ``[S]``: indices of images, or identities, of the image set"""
    scores: np.ndarray
    """float32 ``[S]`` in 0 ... 1: how probably it is at fault, 1 = surely"""
    flagged: np.ndarray
    """bool ``[S]``"""
    evidence: Mapping[str, np.ndarray]
    """What the score rests on, each ``[S]``; each check's docstring names its columns"""
    summary: str
    """One sentence for people"""
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What is said of every image of the set ``[N]``, where the subjects are identities"""

    def worst(self, count: int) -> np.ndarray:
        """Positions of the flagged with the highest scores, highest first."""
        order = np.argsort(-self.scores, kind="stable")
        return order[self.flagged[order]][:count]

    def borderline(self, count: int) -> np.ndarray:
        """Positions of those nearest to the flag's edge, on both sides: lowest flagged first."""
        order = np.argsort(-self.scores, kind="stable")
        is_flagged = self.flagged[order]
        above = order[is_flagged][::-1][: count - count // 2]
        below = order[~is_flagged][: count // 2]
        return np.concatenate([above, below])


class CheckSummary(BaseModel):
    """What ``findings.json`` keeps of a check."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    check: str
    subject: Subject
    scored: int
    flagged: int
    summary: str
    seconds: float


class FindingsMeta(BaseModel):
    """``findings.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: Literal[1]
    images_name: str
    images_digest: str
    """Digest of the store or view that was looked at"""
    embeddings_digest: str
    """What made the embeddings: the digest of teacher, preprocessing and store"""
    evaluation: dict[str, str]
    """Evaluation sets that were looked for: name and digest"""
    images: int
    identities: int
    search: str | None = None
    """The index over the identities' centres and its measured recall"""
    checks: tuple[CheckSummary, ...] = ()


class Findings:
    """The folder of findings, read check by check.

    Raises ``UserError`` where it is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.meta = _read_meta(self.path)

    @property
    def checks(self) -> tuple[str, ...]:
        """Names of the checks that are done, in their order."""
        return tuple(entry.check for entry in self.meta.checks)

    def load(self, check: str) -> Finding:
        """The finding of ``check``; ``UserError`` where it was not made or cannot be read."""
        if check not in self.checks:
            raise UserError(f"{self.path} has no check {check!r}; done: {', '.join(self.checks)}")
        summary = self.meta.checks[self.checks.index(check)]
        path = self.path / f"{check}.npz"
        try:
            return _finding(summary, read_arrays(path))
        except DAMAGE as error:
            raise UserError(f"{path} is missing or damaged: {error}; check again") from None


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz`` file; raises one of ``DAMAGE`` where it is not whole."""
    # NumPy leaves a file open that it opened and found damaged.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def save_finding(path: Path, finding: Finding) -> None:
    """Write ``CHECK.npz``; it counts once ``save_meta`` has written a summary of it."""
    arrays: dict[str, Any] = {
        "subjects": finding.subjects,
        "scores": finding.scores,
        "flagged": finding.flagged,
        **{f"{_EVIDENCE}{name}": array for name, array in finding.evidence.items()},
        **{f"{_IMAGES}{name}": array for name, array in finding.images.items()},
    }
    with atomic_file(path / f"{finding.check}.npz") as file:
        np.savez_compressed(file, **arrays)


def save_meta(path: Path, meta: FindingsMeta) -> None:
    """Write ``findings.json``."""
    with atomic_file(path / FINDINGS_FILE) as file:
        file.write(meta.model_dump_json(indent=2).encode())


def _read_meta(path: Path) -> FindingsMeta:
    try:
        return FindingsMeta.model_validate_json((path / FINDINGS_FILE).read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{path} has no {FINDINGS_FILE}; make findings with `curate check`"
        ) from None
    except OSError as error:
        raise UserError(f"{path / FINDINGS_FILE} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or FINDINGS_FILE
        raise UserError(f"{path / FINDINGS_FILE} is damaged: {where}: {first['msg']}") from None


def _finding(summary: CheckSummary, arrays: dict[str, np.ndarray]) -> Finding:
    def begins(prefix: str) -> dict[str, np.ndarray]:
        return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}

    finding = Finding(
        summary.check,
        summary.subject,
        arrays["subjects"],
        arrays["scores"],
        arrays["flagged"],
        begins(_EVIDENCE),
        summary.summary,
        begins(_IMAGES),
    )
    about = (finding.subjects, finding.scores, finding.flagged)
    for array in (*about, *finding.evidence.values()):
        if array.shape != (summary.scored,):
            raise ValueError("its arrays do not fit its summary")
    return finding

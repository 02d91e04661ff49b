"""Findings in the format of ``curate check``, on the drawn images, with hand-chosen scores."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from curation.conversion.convert import convert
from curation.image_set import ImageSet
from curation.noise.decisions import DECISIONS_FILE, Decision, write_decisions
from curation.noise.findings import (
    CheckSummary,
    Finding,
    Findings,
    FindingsMeta,
    save_finding,
    save_meta,
)
from curation.store import Store

HOSTILE = "</script><script>window.taken = 1</script><img src=x onerror='window.taken = 1'>"


def finding(
    check: str, subject: str, scores: ArrayLike, flagged: int, **evidence: ArrayLike
) -> Finding:
    """A finding on the subjects 0, 1, ... with these scores, the highest of them flagged."""
    given = np.asarray(scores, np.float32)
    is_flagged = np.zeros(len(given), bool)
    is_flagged[np.argsort(-given, kind="stable")[:flagged]] = True
    columns = {name: np.asarray(values) for name, values in evidence.items()}
    summary = f"{flagged} of {len(given)} are flagged by {check}."
    return Finding(check, subject, np.arange(len(given)), given, is_flagged, columns, summary)


def all_findings(images: ImageSet) -> list[Finding]:
    """One finding of each check, on six identities with eight images each."""
    n, k = len(images), images.identities
    image, identity = np.arange(n), np.arange(k)
    part = (image % 8 >= 6).astype(np.int16) * (images.labels < 2)
    mixed = finding(
        *("mixed", "identity", 0.9 - identity / 10, 2),
        parts=1 + (identity < 2),
        smaller=2 * (identity < 2),
        between=identity / 10,
    )
    return [
        finding(
            *("misplaced", "image", image / n, 7),
            similarity=1 - image / n,
            nearest=0.9 - image / n,
            other_identity=np.where(image % 5, (images.labels + 1) % k, -1),
            other_similarity=np.full(n, 0.5),
        ),
        Finding(**{**vars(mixed), "images": {"part": part}}),
        finding(
            *("divided", "identity", 1 - identity / 6, 1),
            other_identity=(identity + 1) % k,
            similarity=np.full(k, 0.7),
        ),
        finding(
            *("duplicate", "image", (n - image) / n, 3),
            of=(image + 1) % n,
            similarity=np.full(n, 0.99),
            difference=np.full(n, 1.5),
        ),
        finding(
            *("unusable", "image", np.full(n, 0.1), 0),
            norm=np.full(n, 3.25),
            similarity=np.full(n, 0.2),
        ),
        finding(
            *("overlap", "identity", identity / 10, 1),
            set=np.array([-1, 1, 1, 0, 1, 1]),
            image=identity,
            similarity=np.full(k, 0.6),
        ),
    ]


def decisions_for(images: ImageSet, findings: Iterable[Finding]) -> list[Decision]:
    """A line for every flagged image that is misplaced or a copy, and for one divided person."""
    merge = Decision("merge", 0, None, 1, "divided", 1.0)
    drops = [
        Decision("drop", int(images.labels[i]), int(i), None, one.check, 1.0, HOSTILE)
        for one in findings
        if one.check in ("misplaced", "duplicate")
        for i in one.subjects[one.flagged]
    ]
    return [*drops, *(merge for one in findings if one.check == "divided")]


def write_findings(
    images: ImageSet, findings: list[Finding], evaluation: dict[str, str] | None = None
) -> Findings:
    """The folder beside ``images``, with decisions on what is flagged, as people make them.

    ``evaluation`` has the digest of each evaluation set.
    """
    written = write_folder(images, findings, evaluation)
    named = {one.check: written.load(one.check).identity for one in findings}
    decisions = [replace(d, findings=named[d.check]) for d in decisions_for(images, findings)]
    write_decisions(written.path / DECISIONS_FILE, images.digest, decisions)
    return written


def checked_store(layout: Path, folder: Path) -> Store:
    """``train.lmdb`` in ``folder``: the drawn images, with a finding of each check."""
    store = convert(layout, folder / "train.lmdb")
    write_findings(store, all_findings(store), {"one": "", "two": ""})
    return store


def store_of_cases(layout: Path, folder: Path) -> Store:
    """``train.lmdb`` in ``folder``: the drawn images, each flagged as misplaced."""
    store = convert(layout, folder / "train.lmdb")
    n = len(store)
    scores = np.linspace(0.51, 0.99, n)
    misplaced = finding(
        *("misplaced", "image", scores, n),
        similarity=1 - scores,
        nearest=1 - scores,
        other_identity=(store.labels + 1) % store.identities,
        other_similarity=scores,
    )
    write_findings(store, [misplaced], {"one": "", "two": ""})
    return store


def write_folder(
    images: ImageSet, findings: Iterable[Finding], evaluation: dict[str, str] | None = None
) -> Findings:
    """Write the folder beside ``images``, without decisions, and open it."""
    folder = Path(images.path).with_name(f"{images.name}.findings")
    folder.mkdir(exist_ok=True)
    summaries = []
    for one in findings:
        save_finding(folder, one)
        summaries.append(_summary(one))
    meta = FindingsMeta(
        format_version=1,
        images_name=images.name,
        images_digest=images.digest,
        embeddings_digest="5eed" * 16,
        images=len(images),
        identities=images.identities,
        evaluation=evaluation or {},
        search=HOSTILE,
        checks=tuple(summaries),
    )
    save_meta(folder, meta)
    return Findings(folder)


def _summary(one: Finding) -> CheckSummary:
    return CheckSummary(
        check=one.check,
        subject=one.subject,
        scored=len(one.subjects),
        flagged=int(one.flagged.sum()),
        summary=one.summary,
        seconds=0.5,
    )

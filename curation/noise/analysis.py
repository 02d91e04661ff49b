"""All checks, one after the other, into a folder of findings; stopped, it goes on."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.files import atomic_file
from curation.noise.checks import CHECKS
from curation.noise.context import Context
from curation.noise.decisions import DECISIONS_FILE, write_decisions
from curation.noise.embedded import EmbeddedImages
from curation.noise.eyes import Eyes
from curation.noise.findings import (
    DAMAGE,
    FINDINGS_FILE,
    CheckSummary,
    Findings,
    FindingsMeta,
    read_arrays,
    save_finding,
    save_meta,
)
from curation.noise.membership import (
    Membership,
    judge_membership,
    load_membership,
    membership_arrays,
)
from curation.noise.overlap import EvaluationImages
from curation.noise.proposals import propose
from curation.progress import Progress, Watch, unwatched
from curation.store import ImageSet

MEMBERSHIP_FILE = "membership.npz"
PROPOSED_FILE = "proposed.tsv"


def findings_folder(images: ImageSet) -> Path:
    """``NAME.findings`` beside a store or view."""
    return images.path.with_name(f"{images.name}.findings")


def evaluation_sets(images: ImageSet) -> list[Path]:
    """The verification sets ``*.bin`` that lie beside the images' store."""
    return sorted(images.store.path.parent.glob("*.bin"))


def look(
    images: ImageSet,
    eyes: Eyes,
    sets: Sequence[Path],
    checks: Sequence[str] | None = None,
    watch: Watch | None = None,
) -> Findings:
    """Embed what is not embedded yet, then ``analyse`` into the folder beside the images."""
    _known(checks)  # before the long work of embedding
    watch = watch or unwatched
    with watch("embed", "blocks") as progress:
        embedded, digest = eyes.see(images, progress)
    with watch("embed evaluation sets", "images") as progress:
        evaluation = eyes.see_evaluation(sets, progress)
    folder = findings_folder(images)
    return analyse(images, embedded, digest, folder, evaluation, checks, watch)


def analyse(
    images: ImageSet,
    embedded: EmbeddedImages,
    embeddings_digest: str,
    folder: Path,
    evaluation: Sequence[EvaluationImages] = (),
    checks: Sequence[str] | None = None,
    watch: Watch | None = None,
) -> Findings:
    """Run ``checks`` (all where not said) and write what they find, with proposed decisions.

    Checks that ``folder`` has of the same images and embeddings are not run again. Raises
    ``UserError`` where a check is unknown, or the folder is about something else.
    """
    wanted = _known(checks)
    folder.mkdir(parents=True, exist_ok=True)
    meta = _begin(images, embeddings_digest, evaluation, folder)
    watch = watch or unwatched
    missing = [name for name in wanted if name not in {entry.check for entry in meta.checks}]
    if missing:
        with watch("membership", "rounds") as progress:
            membership = _membership(embedded, meta, folder, progress)
        context = Context(images, embedded, membership, evaluation)
    for name in missing:
        with watch(name, "") as progress:
            meta = _run(name, context, meta, folder, progress)
    findings = Findings(folder)
    if missing or not (folder / DECISIONS_FILE).exists():
        _propose(findings, images, embedded)
    return findings


def _propose(findings: Findings, images: ImageSet, embedded: EmbeddedImages) -> None:
    """Write what the checks propose; decisions that nobody has edited follow it."""
    proposed, decided = findings.path / PROPOSED_FILE, findings.path / DECISIONS_FILE
    before = proposed.read_bytes() if proposed.exists() else None
    write_decisions(proposed, images.digest, propose(findings, embedded))
    if not decided.exists() or decided.read_bytes() == before:
        with atomic_file(decided) as file:
            file.write(proposed.read_bytes())


def _known(checks: Sequence[str] | None) -> list[str]:
    unknown = set(checks or ()) - set(CHECKS)
    if unknown:
        raise UserError(f"there is no check {unknown.pop()!r}; there are: {', '.join(CHECKS)}")
    return [name for name in CHECKS if checks is None or name in checks]


def _membership(
    embedded: EmbeddedImages, meta: FindingsMeta, folder: Path, progress: Progress | None
) -> Membership:
    """What every check rests on, read again after an interruption."""
    path = folder / MEMBERSHIP_FILE
    of = np.array([meta.images_digest, meta.embeddings_digest])
    try:
        arrays = read_arrays(path)
        if (arrays["of"] == of).all():
            return load_membership(embedded, arrays)
    except DAMAGE:
        pass
    membership = judge_membership(embedded, progress=progress)
    with atomic_file(path) as file:
        np.savez(file, of=of, **membership_arrays(membership))
    return membership


def _begin(
    images: ImageSet, embeddings_digest: str, evaluation: Sequence[EvaluationImages], folder: Path
) -> FindingsMeta:
    fresh = FindingsMeta(
        format_version=1,
        images_name=images.name,
        images_digest=images.digest,
        embeddings_digest=embeddings_digest,
        evaluation={one.name: one.digest for one in evaluation},
        images=len(images),
        identities=images.identities,
    )
    if not (folder / FINDINGS_FILE).exists():
        save_meta(folder, fresh)
        return fresh
    meta = Findings(folder).meta
    about = {"images_digest", "embeddings_digest", "evaluation"}
    if meta.model_dump(include=about) != fresh.model_dump(include=about):
        raise UserError(
            f"{folder} holds findings on other images, by another teacher, or for other evaluation "
            "sets; take it away to check anew"
        )
    return meta


def _run(
    name: str, context: Context, meta: FindingsMeta, folder: Path, progress: Progress | None
) -> FindingsMeta:
    started = time.monotonic()
    finding = CHECKS[name].run(context, progress)
    save_finding(folder, finding)
    summary = CheckSummary(
        check=name,
        subject=finding.subject,
        scored=len(finding.scores),
        flagged=int(finding.flagged.sum()),
        summary=finding.summary,
        seconds=round(time.monotonic() - started, 3),
    )
    meta = meta.model_copy(
        update={"checks": (*meta.checks, summary), "search": str(context.membership.search)}
    )
    save_meta(folder, meta)
    return meta

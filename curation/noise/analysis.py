"""Runs the checks one after the other into a folder of findings; an interrupted run can be resumed.

A folder of findings contains people's decisions, so it is never overwritten. Findings for other
images or another teacher are moved to ``NAME.findings.KEY``, and moved back when the same teacher
checks the same images again.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from curation.array_archives import read_arrays
from curation.errors import UserError
from curation.files import atomic_file, sync_folder
from curation.image_set import ImageSet
from curation.locks import locked
from curation.noise.check import MEMBERSHIP, Context, NoiseCheck, all_checks, load_finding
from curation.noise.decisions import DECISIONS_FILE, read_decisions
from curation.noise.embedded import EmbeddedImages, EvaluationImages, ImageSetEmbedder
from curation.noise.findings import (
    FINDINGS_FILE,
    CheckSummary,
    Findings,
    FindingsMeta,
    findings_folder,
    read_meta,
    save_finding,
    save_meta,
)
from curation.noise.label_errors import (
    LabelErrors,
    estimate_label_errors,
    label_error_arrays,
    load_label_errors,
)
from curation.noise.proposals import write_proposals
from curation.pairs import read_pairs
from curation.printable import argument, printable
from curation.progress import Progress, Say, StepDisplay, silent, unwatched
from curation.suggestions import unknown
from curation.unlabelled import with_each_alone

LABEL_ERRORS_FILE = f"{MEMBERSHIP}.npz"


def evaluation_sets(images: ImageSet) -> list[Path]:
    """The verification sets ``*.bin`` in the folder of the images' store."""
    return sorted(images.store.path.parent.glob("*.bin"))


def find_noise(
    images: ImageSet,
    embedder: ImageSetEmbedder,
    sets: Sequence[Path],
    checks: Sequence[str] | None = None,
    watch: StepDisplay | None = None,
    say: Say = silent,
) -> Findings:
    """Compute missing embeddings, then ``analyse`` into the images' folder of findings.

    Raises ``UserError`` for an unknown check or an unreadable evaluation set, before embedding.
    """
    images = with_each_alone(images)
    sets = sets if any(one.uses_evaluation_sets for one in _known(checks)) else ()
    _check_sets(sets)
    folder = findings_folder(images)
    watch = watch or unwatched
    with watch("embed", "images") as progress:
        embedded, digest = embedder.embed(images, progress)
    with watch("embed evaluation sets", "images") as progress:
        evaluation = embedder.embed_evaluation(sets, progress)
    return analyse(images, embedded, digest, folder, evaluation, checks, watch, say)


def analyse(
    images: ImageSet,
    embedded: EmbeddedImages,
    embeddings_digest: str,
    folder: Path,
    evaluation: Sequence[EvaluationImages] = (),
    checks: Sequence[str] | None = None,
    watch: StepDisplay | None = None,
    say: Say = silent,
) -> Findings:
    """Run ``checks`` (default all) and write their findings, with proposed decisions.

    Checks that ``folder`` already has for the same images and embeddings are not run again, unless
    they use evaluation sets and these have changed. Other findings are set aside. ``say`` is called
    with messages for the user. Raises ``UserError`` if a check is unknown, the decisions cannot be
    read, or another process is writing findings.
    """
    wanted = _known(checks)
    images = with_each_alone(images)
    for sentence in _set_aside_others(folder, images, embeddings_digest):
        say(sentence)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        meta = _begin(images, embeddings_digest, folder)
        if any(one.uses_evaluation_sets for one in wanted):
            meta = _with_evaluation(evaluation, meta, folder, say)
        missing = _missing(wanted, folder)
        if missing and (folder / DECISIONS_FILE).exists():
            read_decisions(folder / DECISIONS_FILE, images.digest)  # before the long work
        watch = watch or unwatched
        if missing:
            with watch("label errors", "rounds") as progress:
                label_errors = _label_errors(embedded, meta, folder, progress)
            context = Context(images, embedded, label_errors, evaluation)
        for one in missing:
            with watch(one.name, "") as progress:
                meta = _run(one, context, meta, folder, progress)
        findings = Findings(folder, images)
        if missing or not (folder / DECISIONS_FILE).exists():
            write_proposals(findings, images, embedded, say)
        return findings


def _set_aside_others(folder: Path, images: ImageSet, embeddings_digest: str) -> list[str]:
    """Move findings of other images or teachers away, and restore earlier findings of these.

    Returns messages about what was moved. Raises ``UserError`` if another process is writing
    findings there.
    """
    wanted = _key(images.digest, embeddings_digest)
    messages = []
    if (folder / FINDINGS_FILE).exists():
        with locked(folder):
            meta = _meta_or_none(folder)
            key = "damaged" if meta is None else _key(meta.images_digest, meta.embeddings_digest)
            if key == wanted:
                return []
            aside = _free(folder, key)
            folder.rename(aside)
            sync_folder(folder.parent)
        messages.append(_sentence(folder, aside, meta, images))
    earlier = folder.with_name(f"{folder.name}.{wanted}")
    if earlier.exists() and not folder.exists():
        earlier.rename(folder)
        sync_folder(folder.parent)
        messages.append(f"this teacher's earlier findings are restored as {folder}")
    return messages


def _key(images_digest: str, embeddings_digest: str) -> str:
    return hashlib.sha256(f"{images_digest} {embeddings_digest}".encode()).hexdigest()[:12]


def _meta_or_none(folder: Path) -> FindingsMeta | None:
    try:
        return read_meta(folder)
    except UserError:
        return None


def _free(folder: Path, key: str) -> Path:
    """An unused name."""
    path, number = folder.with_name(f"{folder.name}.{key}"), 1
    while path.exists():
        number += 1
        path = folder.with_name(f"{folder.name}.{key}-{number}")
    return path


def _sentence(folder: Path, aside: Path, meta: FindingsMeta | None, images: ImageSet) -> str:
    if meta is None:
        return f"{folder / FINDINGS_FILE} was damaged; the folder was moved to {aside}"
    if meta.images_digest != images.digest:
        return (
            f"{folder} was made for earlier contents of {images.path.name}; it is kept, with its "
            f"decisions, as {aside}"
        )
    return (
        f"{folder} was made with another teacher; it is kept, with its decisions, as {aside} "
        f"(`curate clean ... --decisions {argument(aside / DECISIONS_FILE)}` applies them)"
    )


def _check_sets(sets: Sequence[Path]) -> None:
    """``UserError`` if a set cannot be read or two have the same name."""
    for path in sets:
        read_pairs(path)
    for name, count in Counter(path.stem for path in sets).items():
        if count > 1:
            raise UserError(f"{count} evaluation sets have the name {name}; rename them")


def _known(checks: Sequence[str] | None) -> list[NoiseCheck]:
    known = all_checks()
    others = [name for name in checks or () if name not in known]
    if others:
        raise unknown("check", others[0], known)
    return [one for name, one in known.items() if checks is None or name in checks]


def _label_errors(
    embedded: EmbeddedImages, meta: FindingsMeta, folder: Path, progress: Progress | None
) -> LabelErrors:
    """The input of all checks; read from the folder after an interruption."""
    path = folder / LABEL_ERRORS_FILE
    of = np.array([meta.images_digest, meta.embeddings_digest])
    try:
        arrays = read_arrays(path, 16 * len(embedded))
        if arrays["of"].tolist() == of.tolist():
            return load_label_errors(embedded, arrays)
    except (KeyError, ValueError):  # fall through and estimate again
        pass
    label_errors = estimate_label_errors(embedded, progress=progress)
    with atomic_file(path) as file:
        np.savez(file, of=of, **label_error_arrays(label_errors))
    return label_errors


def _begin(images: ImageSet, embeddings_digest: str, folder: Path) -> FindingsMeta:
    """The folder's ``findings.json``; a new one if missing."""
    if (folder / FINDINGS_FILE).exists():
        return Findings(folder, images).meta
    meta = FindingsMeta(
        format_version=1,
        images_name=printable(images.name),
        images_digest=images.digest,
        embeddings_digest=embeddings_digest,
        evaluation={},
        images=len(images),
        identities=images.identities,
    )
    save_meta(folder, meta)
    return meta


def _with_evaluation(
    evaluation: Sequence[EvaluationImages], meta: FindingsMeta, folder: Path, say: Say
) -> FindingsMeta:
    """Record these evaluation sets; checks that used others are no longer done."""
    sets = {one.name: one.digest for one in evaluation}
    if sets == meta.evaluation:
        return meta
    using = {name for name, one in all_checks().items() if one.uses_evaluation_sets}
    again = [entry.check for entry in meta.checks if entry.check in using]
    if again:
        say(
            f"the evaluation sets have changed from {', '.join(meta.evaluation) or 'none'} to "
            f"{', '.join(sets) or 'none'}: {', '.join(again)} runs again; other findings are kept"
        )
    others = tuple(entry for entry in meta.checks if entry.check not in using)
    meta = meta.model_copy(update={"evaluation": sets, "checks": others})
    save_meta(folder, meta)
    return meta


def _missing(wanted: Sequence[NoiseCheck], folder: Path) -> list[NoiseCheck]:
    """The checks that are not done or whose file cannot be read."""
    findings = Findings(folder)
    missing = []
    for one in wanted:
        try:
            load_finding(findings, one.name)
        except UserError:
            missing.append(one)
    return missing


def _run(
    check: NoiseCheck,
    context: Context,
    meta: FindingsMeta,
    folder: Path,
    progress: Progress | None,
) -> FindingsMeta:
    started = time.monotonic()
    finding = check.score(context, progress)
    save_finding(folder, finding)
    summary = CheckSummary(
        check=check.name,
        subject=finding.subject,
        scored=len(finding.scores),
        flagged=int(finding.flagged.sum()),
        summary=finding.summary,
        seconds=round(time.monotonic() - started, 3),
    )
    others = (entry for entry in meta.checks if entry.check != check.name)
    meta = meta.model_copy(
        update={"checks": (*others, summary), "search": str(context.label_errors.search)}
    )
    save_meta(folder, meta)
    return meta

"""All checks, one after the other, into a folder of findings; stopped, it goes on."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from curation.array_archives import read_arrays
from curation.errors import UserError
from curation.files import atomic_file, locked
from curation.noise.check import MEMBERSHIP, Context, NoiseCheck, all_checks, load_finding
from curation.noise.decision_table import read_decisions
from curation.noise.decisions import DECISIONS_FILE, Decision, write_decisions
from curation.noise.embedded import EmbeddedImages, EvaluationImages, ImageSetEmbedder
from curation.noise.findings import (
    FINDINGS_FILE,
    CheckSummary,
    Findings,
    FindingsMeta,
    save_finding,
    save_meta,
)
from curation.noise.kept import findings_folder, make_way
from curation.noise.label_errors import (
    LabelErrors,
    estimate_label_errors,
    label_error_arrays,
    load_label_errors,
)
from curation.noise.overrides import follow_proposals
from curation.noise.proposals import propose
from curation.pairs import read_pairs
from curation.printable import printable
from curation.progress import Progress, Say, Watch, unsaid, unwatched
from curation.sources.image_source import file_digest
from curation.store import ImageSet
from curation.suggestions import unknown

LABEL_ERRORS_FILE = f"{MEMBERSHIP}.npz"
PROPOSED_FILE = "proposed.tsv"


def evaluation_sets(images: ImageSet) -> list[Path]:
    """The verification sets ``*.bin`` that lie beside the images' store."""
    return sorted(images.store.path.parent.glob("*.bin"))


def find_noise(
    images: ImageSet,
    embedder: ImageSetEmbedder,
    sets: Sequence[Path],
    checks: Sequence[str] | None = None,
    watch: Watch | None = None,
    say: Say = unsaid,
) -> Findings:
    """Embed what is not embedded yet, then ``analyse`` into the folder beside the images.

    Raises ``UserError``, before anything is embedded, where a check is unknown or an evaluation set
    cannot be read.
    """
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
    watch: Watch | None = None,
    say: Say = unsaid,
) -> Findings:
    """Run ``checks`` (all where not said) and write what they find, with proposed decisions.

    Checks that ``folder`` has of the same images and embeddings are not run again, unless they use
    evaluation sets and these are others. Findings of something else are kept beside it. ``say`` is
    told what a person wants to know. Raises ``UserError`` where a check is unknown, the table of
    decisions cannot be read, or another process is writing findings.
    """
    wanted = _known(checks)
    for sentence in make_way(folder, images, embeddings_digest):
        say(sentence)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        meta = _begin(images, embeddings_digest, folder)
        if any(one.uses_evaluation_sets for one in wanted):
            meta = _look_for(evaluation, meta, folder, say)
        missing = _missing(wanted, folder)
        if missing and (folder / DECISIONS_FILE).exists():
            read_decisions(folder / DECISIONS_FILE, images.digest)  # before the long work
        watch = watch or unwatched
        if missing:
            with watch("label errors", "rounds") as progress:
                label_errors = _membership(embedded, meta, folder, progress)
            context = Context(images, embedded, label_errors, evaluation)
        for one in missing:
            with watch(one.name, "") as progress:
                meta = _run(one, context, meta, folder, progress)
        findings = Findings(folder, images)
        if missing or not (folder / DECISIONS_FILE).exists():
            _propose(findings, images, embedded, say)
        return findings


def _propose(findings: Findings, images: ImageSet, embedded: EmbeddedImages, say: Say) -> None:
    """Write what the checks propose; the table of decisions follows it, and keeps every edit."""
    proposed, decided = findings.path / PROPOSED_FILE, findings.path / DECISIONS_FILE
    lines = list(propose(findings, embedded))
    is_edited = decided.exists() and _digest(decided) != _digest(proposed)
    if is_edited:
        mine = read_decisions(decided, images.digest)
        earlier = _earlier(proposed, images)
        merged = follow_proposals(mine, earlier, lines)
        were, are = ({(line.check, line.proposal) for line in table} for table in (mine, merged))
        say(
            f"{decided} keeps what was edited; proposals added: {len(are - were):,}, "
            f"withdrawn: {len(were - are):,}"
        )
        write_decisions(decided, images.digest, merged)
    write_decisions(proposed, images.digest, lines)
    if not is_edited:
        with atomic_file(decided) as file:
            file.write(proposed.read_bytes())


def _digest(table: Path) -> str | None:
    try:
        return file_digest(table)
    except (OSError, UserError):
        return None


def _earlier(proposed: Path, images: ImageSet) -> list[Decision]:
    """What was proposed before; nothing where that cannot be read."""
    try:
        return read_decisions(proposed, images.digest)
    except UserError:
        return []


def _check_sets(sets: Sequence[Path]) -> None:
    """``UserError`` where one cannot be read, or two have one name."""
    for path in sets:
        read_pairs(path)
    for name, count in Counter(path.stem for path in sets).items():
        if count > 1:
            raise UserError(f"{count} evaluation sets are called {name}; give them different names")


def _known(checks: Sequence[str] | None) -> list[NoiseCheck]:
    known = all_checks()
    others = [name for name in checks or () if name not in known]
    if others:
        raise unknown("check", others[0], known)
    return [one for name, one in known.items() if checks is None or name in checks]


def _membership(
    embedded: EmbeddedImages, meta: FindingsMeta, folder: Path, progress: Progress | None
) -> LabelErrors:
    """What every check rests on, read again after an interruption."""
    path = folder / LABEL_ERRORS_FILE
    of = np.array([meta.images_digest, meta.embeddings_digest])
    try:
        arrays = read_arrays(path, 16 * len(embedded))
        if arrays["of"].tolist() == of.tolist():
            return load_label_errors(embedded, arrays)
    except (KeyError, ValueError):  # made again
        pass
    label_errors = estimate_label_errors(embedded, progress=progress)
    with atomic_file(path) as file:
        np.savez(file, of=of, **label_error_arrays(label_errors))
    return label_errors


def _begin(images: ImageSet, embeddings_digest: str, folder: Path) -> FindingsMeta:
    """What the folder says, after ``make_way``; new where it holds nothing yet."""
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


def _look_for(
    evaluation: Sequence[EvaluationImages], meta: FindingsMeta, folder: Path, say: Say
) -> FindingsMeta:
    """Without the checks that were made with other evaluation sets than these."""
    sets = {one.name: one.digest for one in evaluation}
    if sets == meta.evaluation:
        return meta
    using = {name for name, one in all_checks().items() if one.uses_evaluation_sets}
    again = [entry.check for entry in meta.checks if entry.check in using]
    if again:
        say(
            f"the evaluation sets were {', '.join(meta.evaluation) or 'none'} and are "
            f"{', '.join(sets) or 'none'}: {', '.join(again)} is run again, all else stays"
        )
    others = tuple(entry for entry in meta.checks if entry.check not in using)
    meta = meta.model_copy(update={"evaluation": sets, "checks": others})
    save_meta(folder, meta)
    return meta


def _missing(wanted: Sequence[NoiseCheck], folder: Path) -> list[NoiseCheck]:
    """The checks that are not done, or whose file cannot be read."""
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

"""Turns findings into proposed decisions, at most one for each image and identity.

The checks propose in order of precedence. Images that must not be used for training come first:
overlap, then unusable, then duplicates. Identities are split before single images are judged
misplaced.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.files import atomic_file, file_digest
from curation.image_set import ImageSet
from curation.noise.check import Fates, NoiseCheck, all_checks, load_finding
from curation.noise.decisions import DECISIONS_FILE, Decision, read_decisions, write_decisions
from curation.noise.embedded import EmbeddedImages
from curation.noise.findings import Finding, Findings
from curation.progress import Say, silent

PROPOSED_FILE = "proposed.tsv"


def propose(findings: Findings, images: EmbeddedImages) -> Iterator[Decision]:
    """Propose decisions on all flagged subjects, check by check, ordered by subject.

    Each names the findings it is based on. Raises ``UserError`` if findings cannot be read or lack
    some of the subjects they should score.
    """
    done = {name: one for name, one in all_checks().items() if name in findings.checks}
    fates = Fates(images, {name: _whole(findings, one, images) for name, one in done.items()})
    for one in sorted(done.values(), key=lambda check: check.precedence):
        finding = fates.findings[one.name]
        for decision in one.propose(finding, fates):
            yield replace(decision, check=one.name, findings=finding.identity)


def write_proposals(
    findings: Findings, images: ImageSet, embedded: EmbeddedImages, say: Say = silent
) -> None:
    """Write the proposals, and update the table of decisions without losing edits."""
    proposed, decided = findings.path / PROPOSED_FILE, findings.path / DECISIONS_FILE
    lines = list(propose(findings, embedded))
    is_edited = decided.exists() and _digest(decided) != _digest(proposed)
    if is_edited:
        mine = read_decisions(decided, images.digest)
        earlier = _earlier(proposed, images)
        merged = follow_proposals(mine, earlier, lines)
        were, are = ({(line.check, line.proposal) for line in table} for table in (mine, merged))
        say(
            f"{decided} keeps your edits; proposals added: {len(are - were):,}, "
            f"withdrawn: {len(were - are):,}"
        )
        write_decisions(decided, images.digest, merged)
    write_decisions(proposed, images.digest, lines)
    if not is_edited:
        with atomic_file(decided) as file:
            file.write(proposed.read_bytes())


def report_lost_proposals(
    table: Path, decisions: Sequence[Decision], images: ImageSet, say: Say
) -> None:
    """Say which proposals for ``table`` its ``decisions`` lack: a person removed the lines, or the
    file was cut off.
    """
    proposed = table.with_name(PROPOSED_FILE)
    if not proposed.exists() or _digest(table) == _digest(proposed):
        return
    decided = {line.about for line in decisions}
    lost = [line for line in _earlier(proposed, images) if line.apply and line.about not in decided]
    if lost:
        say(
            f"{len(lost):,} proposals are not applied, because {table} has no lines about their "
            f"images or identities, such as {lost[0].proposal!r}; if nobody removed these lines, "
            f"take them from {proposed}"
        )


def _digest(table: Path) -> str | None:
    try:
        return file_digest(table)
    except (OSError, UserError):
        return None


def _earlier(proposed: Path, images: ImageSet) -> list[Decision]:
    """The earlier proposals; empty if they cannot be read."""
    try:
        return read_decisions(proposed, images.digest)
    except UserError:
        return []


def follow_proposals(
    mine: Sequence[Decision], before: Sequence[Decision], proposed: Sequence[Decision]
) -> list[Decision]:
    """Update the edited table ``mine``, which was made from ``before``, to what is ``proposed``
    now.

    Lines that were changed, added or removed stay that way. Other lines that are no longer proposed
    are removed. New proposals are added unless an edited line concerns the same image or identity.
    """
    earlier = {_key(line): line for line in before}
    now = {_key(line): line for line in proposed}
    kept, settled = [], set()
    for line in mine:
        again, known = now.get(_key(line)), earlier.get(_key(line))
        if known is not None and _same(line, known):
            kept += [] if again is None else [again]
            continue
        settled.add(line.about)
        kept.append(replace(line, findings="" if again is None else again.findings))
    there = {_key(line) for line in mine}
    new = [
        line
        for key, line in now.items()
        if key not in there and key not in earlier and line.about not in settled
    ]
    return [*kept, *new]


def _key(line: Decision) -> tuple[str, str]:
    return line.check, line.proposal


def _same(line: Decision, other: Decision) -> bool:
    return (line.apply, line.note) == (other.apply, other.note)


def _whole(findings: Findings, check: NoiseCheck, images: EmbeddedImages) -> Finding:
    """The finding of a check. If the check scores every subject, all must be present in order."""
    finding = load_finding(findings, check.name)
    there = np.arange(len(images) if check.subject == "image" else images.identities)
    if check.scores_all and not np.array_equal(finding.subjects, there):
        raise UserError(
            f"{findings.path / check.name}.npz is damaged: it does not score every "
            f"{check.subject}; check again"
        )
    return finding

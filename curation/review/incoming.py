"""Imports decisions made elsewhere: tables from editors and the report, logs of other reviews."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from curation.files import regular_file_size
from curation.noise.decisions import Decision, read_decisions
from curation.noise.overrides import refuse_contradictions, refuse_other_findings
from curation.review.events import ReviewEvent, event_id
from curation.review.log import DecisionLog
from curation.review.review import Review, reviewer
from curation.review.standing import Standing

LOG_SUFFIX = ".jsonl"


@dataclass(frozen=True)
class ReadTable:
    """The result of importing a file."""

    decided: int
    """Cases that it decided"""
    known: int
    """Cases that were already decided the same way"""
    conflicts: int
    """Cases that were decided differently"""
    left: int
    """Lines without a check, which remain for ``curate clean --override``"""


def read_decided(review: Review, path: Path, who: str) -> ReadTable:
    """Import a table of decisions (by ``who``), or the log of another review.

    A case that was decided differently becomes a conflict. Raises ``UserError`` if the file cannot
    be read, contradicts itself, or is for other images or findings.
    """
    who = reviewer(who)
    review.refresh()
    if path.suffix.lower() == LOG_SUFFIX:
        events, left = list(_of_log(review, path)), 0
    else:
        events, left = _of_table(review, path, who)
    new, known, conflicts = [], 0, 0
    for event in events:
        before = review.standing.decision(event.case)
        if before is not None and set(before.decisions()) == _as_of(before, event):
            known += 1
            continue
        conflicts += before is not None
        new.append(event if before is None else replace(event, against=before.id))
    written = review.write_read(new)
    return ReadTable(written, known + len(new) - written, conflicts, left)


def _as_of(before: ReviewEvent, event: ReviewEvent) -> set[Decision]:
    """The lines of ``event`` with the metadata of ``before``, for comparing their effect."""
    return set(replace(event, who=before.who, at=before.at, score=before.score).decisions())


def _of_log(review: Review, path: Path) -> Iterator[ReviewEvent]:
    regular_file_size(path)  # a missing log of this review is an empty one; a named file must exist
    standing = Standing({one.identity for one in review.cases.findings})
    for event in DecisionLog(path).news():
        standing.add(event)
    for event in standing.decided():
        yield replace(event, against=None)


def _of_table(review: Review, path: Path, who: str) -> tuple[list[ReviewEvent], int]:
    lines = read_decisions(path, review.findings.meta.images_digest)
    refuse_other_findings(lines, review.findings)
    refuse_contradictions(lines)
    of_case: dict[tuple[str, int], list[Decision]] = defaultdict(list)
    subjects = {one.check: one.subject for one in review.cases.findings}
    left = 0
    for line in lines:
        subject = subjects.get(line.check)
        about = line.image if subject == "image" else line.identity
        if subject is None or about is None:
            left += 1
        else:
            of_case[line.check, about].append(line)
    return [_event(review, check, about, own, who) for (check, about), own in of_case.items()], left


def _event(
    review: Review, check: str, subject: int, lines: Sequence[Decision], who: str
) -> ReviewEvent:
    key = f"{check}-{subject}"
    done = tuple(line.proposal for line in lines if line.apply)
    case = review.cases.find(key)
    proposed = tuple(line.proposal for line in lines)
    if case is not None:
        known = (line.proposal for line in review.cases.proposal(case).lines)
        proposed = tuple(dict.fromkeys([*known, *(p for p in proposed if p not in done)]))
    choice = "reject" if not done else "accept" if set(done) == set(proposed) else "change"
    finding = next(one for one in review.cases.findings if one.check == check)
    verdicts = sorted((line.proposal, line.apply) for line in lines)
    return ReviewEvent(
        event_id(finding.identity, who, key, verdicts),
        datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        *(who, key, finding.identity, lines[0].score),
        choice,  # type: ignore[arg-type]
        bool(done),
        *(proposed, done),
    )

"""The outcome of a review: the decisions that ``curate clean`` applies, and their effect."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.noise.clean import apply_decisions
from curation.noise.decisions import DECISIONS_FILE, Decision, subject_name
from curation.noise.findings import FINDINGS_FILE, Findings
from curation.noise.overrides import chosen_decisions, override_decisions
from curation.noise.proposals import report_lost_proposals
from curation.progress import Say, silent
from curation.review.events import ReviewEvent
from curation.review.log import DECISIONS_LOG, DecisionLog
from curation.review.standing import Conflict, Standing

_MOST_LISTED = 20


@dataclass(frozen=True)
class CleaningEffect:
    """The number of images and identities before and after the decisions."""

    images_before: int
    images: int
    identities_before: int
    identities: int


def cleaning_effect(labels: np.ndarray, decisions: Sequence[Decision]) -> CleaningEffect:
    """The effect of ``apply_decisions`` on images with labels ``[N]``; raises its errors."""
    new = apply_decisions(labels, decisions)
    left = new[new >= 0]
    return CleaningEffect(len(labels), len(left), int(labels[-1]) + 1, len(np.unique(left)))


def reviewed(table: Sequence[Decision], standing: Standing) -> list[Decision]:
    """The decisions of ``table``, overridden by the reviewers' decisions.

    Merges that were only proposed are dropped if they form a cycle with the reviewers' merges.
    """
    decided = [line for event in standing.decided() for line in event.decisions()]
    about = {line.about for line in decided}
    into = {d.identity: d.into for d in decided if d.apply and d.action == "merge"}
    kept = []
    for line in table:
        if line.about not in about and line.apply and line.action == "merge":
            if _leads_to(line.into, line.identity, into):
                continue
            into[line.identity] = line.into
        kept.append(line)
    return override_decisions(kept, decided)


def decisions_to_carry_out(
    table: Path | None,
    overrides: Sequence[Path],
    images: ImageSet,
    findings: Path,
    say: Say = silent,
) -> list[Decision]:
    """The decisions of ``table``, overridden by those of ``overrides``.

    ``None`` means the table of the folder ``findings`` including its review. ``say`` is called
    with a remark on proposals that the table lacks. Raises ``UserError`` like ``chosen_decisions``,
    and if reviewers contradict each other.
    """
    own = findings / DECISIONS_FILE
    log = findings / DECISIONS_LOG
    if table is not None or not (log.exists() and (findings / FINDINGS_FILE).exists()):
        chosen = chosen_decisions(table or own, overrides, images, findings)
        report_lost_proposals(table or own, chosen, images, say)
        return chosen
    chosen = chosen_decisions(own, [], images, findings)
    report_lost_proposals(own, chosen, images, say)
    found = Findings(findings, images)
    standing = Standing({found.load(check).identity for check in found.checks})
    for event in DecisionLog(log).news():
        standing.add(event)
    refuse_conflicts(standing.conflicts(), log)
    result = reviewed(chosen, standing)
    if overrides:
        result = chosen_decisions(own, overrides, images, findings, result)
    return result


def refuse_conflicts(conflicts: Sequence[Conflict], log: Path) -> None:
    """``UserError`` that lists decisions that contradict each other."""
    if not conflicts:
        return
    listed = [
        f"{subject_name(one.about)}: {', '.join(map(_described, one.events))}" for one in conflicts
    ]
    if len(listed) > _MOST_LISTED:
        listed[_MOST_LISTED:] = [f"and {len(listed) - _MOST_LISTED:,} more"]
    raise UserError(
        f"in {log} reviewers contradict each other; resolve it in `curate review`\n  "
        + "\n  ".join(listed)
    )


def _leads_to(begin: int | None, end: int, into: dict[int, int | None]) -> bool:
    """Whether acyclic merges lead from one identity to another."""
    seen: set[int] = set()
    while begin is not None and begin != end and begin not in seen:
        seen.add(begin)
        begin = into.get(begin)
    return begin == end


def _described(event: ReviewEvent) -> str:
    return f"{event.who} on {event.case} ({event.choice})"

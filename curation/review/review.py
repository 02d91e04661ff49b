"""A review: the cases of a folder of findings, and the decisions so far.

Several processes, each with several threads, may open a review of the same folder: they share only
the log. A decision counts once it is in the log, and is accepted only if nothing that it concerns
was decided since the reviewer saw it.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.noise.decisions import DECISIONS_FILE, Decision
from curation.noise.findings import FINDINGS_FILE, Findings
from curation.report.siblings import decisions_of
from curation.review.cases import Cases, find_cases
from curation.review.compared import ComparedPictures
from curation.review.confirmed import ConfirmedShare, measured_calibration
from curation.review.drafting import checked_lines, confirms
from curation.review.events import Choice, ReviewEvent
from curation.review.leases import Leases
from curation.review.log import DECISIONS_LOG, DecisionLog
from curation.review.open_cases import OpenCases
from curation.review.outcome import reviewed
from curation.review.progress import ReviewProgress, measured_progress
from curation.review.refusals import StaleError, refuse_circle, refuse_stale
from curation.review.standing import DEEPEST_UNDO, Conflict, Standing
from curation.unlabelled import with_each_alone

LONGEST_NAME = 64


class Review:
    """Cases and decisions; ``now`` returns the time in seconds since 1970.

    Raises ``UserError`` if the findings, the table or the log cannot be read.
    """

    def __init__(
        self, images: ImageSet, findings: Findings, now: Callable[[], float] = time.time
    ) -> None:
        self.images = with_each_alone(images)
        self.findings = findings
        self.table = decisions_of(findings)
        self.cases: Cases = find_cases(self.images, findings, self.table)
        self._now = now
        self._leases = Leases(findings.path)
        self._stamp = _stamp(findings.path)
        self._mutex = threading.RLock()
        self._log = DecisionLog(findings.path / DECISIONS_LOG)
        self._standing = Standing({one.identity for one in self.cases.findings})
        self.compared = ComparedPictures(self.cases, findings)
        self._still = OpenCases(self.cases, self._standing)
        self.refresh()

    def is_current(self) -> bool:
        """Whether the findings and the table on disk are still those that were opened."""
        try:
            return _stamp(self.findings.path) == self._stamp
        except UserError:
            return False

    def refresh(self) -> int:
        """Read the decisions of other processes; return the number of events."""
        with self._mutex:
            self._take_in(self._log.news())
            return len(self._standing)

    def next_cases(
        self,
        who: str,
        count: int,
        check: str | None = None,
        held: Collection[str] = (),
        later: Sequence[str] = (),
    ) -> list[int]:
        """Up to ``count`` open cases for ``who``, in order, that nobody else is looking at.

        Of the cases leased to ``who`` before, only ``held`` stay leased; they are not returned.
        Those put off, ``later``, come after all others.
        """
        who = reviewer(who)
        with self._alone():
            now = self._now()
            taken = self._leases.of_others(who, now)
            found: list[int] = []
            for case in self._with_last(later, self._in_order(check)):
                key = self.cases.key(case)
                if len(found) == count:
                    break
                if key not in taken and key not in held:
                    found.append(case)
            self._leases.take(who, [*held, *map(self.cases.key, found)], now)
            return found

    def decide(
        self,
        event_id: str,
        who: str,
        key: str,
        findings: str,
        seen: int,
        choice: Choice,
        lines: Sequence[str] = (),
    ) -> ReviewEvent:
        """Write a decision, and return it when it is on disk.

        ``seen`` is the number of events when the reviewer got the case. For the choice "change",
        ``lines`` are the decisions to apply, as ``Decision.proposal``; the part 0 of a split is a
        new part. Repeating an ``event_id`` changes nothing. Raises ``StaleError`` if the case or
        one of its identities was decided on since, or the findings differ; ``UserError`` if the
        lines cannot be applied.
        """
        who = reviewer(who)
        with self._alone():
            if (before := self._standing.event(event_id)) is not None:
                return before
            case = self._case(key, findings)
            event = self._event(event_id, who, case, choice, lines)
            refuse_stale(self.cases, self._standing, case, event, seen)
            refuse_circle(self._standing, event)
            self._write(event)
            return event

    def undo(self, event_id: str, who: str, undoes: str) -> ReviewEvent:
        """Undo an event; undoing an undo restores the original.

        Raises ``StaleError`` if it is already undone.
        """
        who = reviewer(who)
        with self._alone():
            if (before := self._standing.event(event_id)) is not None:
                return before
            target = self._standing.event(undoes)
            if target is None:
                raise UserError(f"there is no event {undoes[:64]!r}")
            if not self._standing.is_alive(target):
                by = self._standing.undone_by(target)
                how = "is about other findings" if by is None else f"was undone by {by.who}"
                raise StaleError(f"{target.case}: this {how}")
            if self._standing.is_undone_too_often(target):
                raise UserError(
                    f"{target.case} was undone and restored {DEEPEST_UNDO} times; decide it again"
                )
            if (revived := self._standing.after_undo(target)) is not None:
                refuse_circle(self._standing, revived)
            event = ReviewEvent(
                event_id, self._time(), who, target.case, target.findings, undoes=undoes
            )
            self._write(event)
            return event

    def settle(self, event_id: str, who: str, conflict: Conflict, keep: str) -> list[ReviewEvent]:
        """Resolve a conflict: the decision ``keep`` stays, the others lose what contradicts it.

        Raises ``StaleError`` if the conflict no longer exists.
        """
        who = reviewer(who)
        with self._alone():
            if conflict not in self._standing.conflicts():
                raise StaleError("this conflict is settled or has changed")
            kept = next((e for e in conflict.events if e.id == keep), None)
            if kept is None:
                raise UserError(f"{keep[:64]!r} is not one of the decisions in this conflict")
            written = []
            for number, other in enumerate(e for e in conflict.events if e.id != keep):
                lines = kept.lines
                if other.case != kept.case:
                    own = [d for d in other.decisions() if d.apply]
                    lines = tuple(d.proposal for d in own if d.about != conflict.about)
                case = self.cases.find(other.case)
                if case is None:
                    raise UserError(f"{other.case} is not a case of these findings; undo it")
                is_same = other.case == kept.case
                choice = kept.choice if is_same and kept.choice else "change"
                event = self._event(f"{event_id}.{number}", who, case, choice, lines)
                self._write(event)
                written.append(event)
            return written

    def write_read(self, events: Iterable[ReviewEvent]) -> int:
        """Write imported decisions; return the number of new ones."""
        with self._alone():
            known = len(self._standing)
            for event in events:
                if self._standing.event(event.id) is None:
                    self._write(event)
            return len(self._standing) - known

    def look(self, key: str) -> int:
        """The case with this key; ``UserError`` if there is none."""
        case = self.cases.find(key)
        if case is None:
            raise UserError(f"there is no case {key[:80]!r} in {self.findings.path}")
        return case

    def decision(self, case: int) -> ReviewEvent | None:
        """The current decision on the case."""
        with self._mutex:
            return self._standing.decision(self.cases.key(case))

    def is_open(self, case: int) -> bool:
        """Whether the case is undecided."""
        with self._mutex:
            return bool(self._still.open[case])

    def holder(self, case: int) -> str | None:
        """The reviewer who is looking at the case."""
        return self._leases.holder(self.cases.key(case), self._now())

    def lines_about(self, images: Iterable[int]) -> dict[int, list[Decision]]:
        """The reviewers' decisions on each of ``images``, without those that have none."""
        with self._mutex:
            return self._standing.about_images(images)

    def history(self, count: int, before: int | None = None) -> list[tuple[int, ReviewEvent]]:
        """The last events and their numbers from 1, newest first; with ``before``, only those below
        it.
        """
        with self._mutex:
            events = self._standing.events
            end = len(events) if before is None else max(0, min(before - 1, len(events)))
            return [(n, events[n - 1]) for n in range(end, max(0, end - count), -1)]

    def counts(self, event: ReviewEvent) -> bool:
        """Whether the event is in effect."""
        with self._mutex:
            return self._standing.is_alive(event)

    def conflicts(self) -> list[Conflict]:
        """Decisions that contradict each other."""
        with self._mutex:
            return self._standing.conflicts()

    def calibration(self) -> list[ConfirmedShare]:
        """How often each check was right, where there are enough decisions."""
        with self._mutex:
            return measured_calibration(self._standing.decided())

    def progress(self) -> ReviewProgress:
        """The progress of the review."""
        with self._mutex:
            return measured_progress(self.cases, self._standing, self._still.open)

    def decisions(self) -> list[Decision]:
        """The table with the reviewers' decisions, without proposals that no longer fit."""
        with self._mutex:
            return reviewed(self.table, self._standing)

    @property
    def standing(self) -> Standing:
        """The current state of all decisions; read-only."""
        return self._standing

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the review against other decisions, and read those made so far."""
        with self._mutex:
            if _stamp(self.findings.path) != self._stamp:
                raise StaleError(
                    f"{self.findings.path} has new findings or a new table since this review was "
                    f"opened; open it again"
                )
            with self._log.alone() as events:
                self._take_in(events)
                yield

    def _write(self, event: ReviewEvent) -> None:
        self._log.append(event)
        self._take_in([event])

    def _take_in(self, events: Iterable[ReviewEvent]) -> None:
        for event in events:
            self._still.update(event, self._standing.add(event))

    def _in_order(self, check: str | None) -> Iterator[int]:
        order = self.cases.order
        chosen = self._still.open[order]
        if check is not None:
            names = [one.check for one in self.cases.findings]
            if check not in names:
                raise UserError(
                    f"there are no findings of {check[:64]!r}; there are: {', '.join(names)}"
                )
            chosen = chosen & (self.cases.check[order] == names.index(check))
        yield from map(int, order[chosen])

    def _with_last(self, last: Sequence[str], cases: Iterable[int]) -> Iterator[int]:
        """``cases``, but those with the keys ``last`` at the end and in their order."""
        found: dict[str, int | None] = dict.fromkeys(last)
        for case in cases:
            key = self.cases.key(case)
            if key in found:
                found[key] = case
            else:
                yield case
        yield from (case for case in found.values() if case is not None)

    def _case(self, key: str, findings: str) -> int:
        case = self.look(key)
        if self.cases.findings[self.cases.check[case]].identity != findings:
            raise StaleError(f"{key}: this was shown for other findings; reload it")
        return case

    def _event(
        self, event_id: str, who: str, case: int, choice: Choice, lines: Sequence[str]
    ) -> ReviewEvent:
        proposal = self.cases.proposal(case)
        proposed = tuple(line.proposal for line in proposal.lines)
        done: tuple[str, ...] = proposed if choice == "accept" else ()
        if choice == "change":
            done = checked_lines(self.cases, self._standing, lines)
        if choice == "change" and set(done) == set(proposed):
            choice = "accept"
        if choice in ("accept", "change") and not done:
            choice = "reject"
        return ReviewEvent(
            *(event_id, self._time(), who, self.cases.key(case)),
            self.cases.findings[self.cases.check[case]].identity,
            round(float(self.cases.score[case]), 4),
            choice,
            None if choice == "unsure" else confirms(self.cases, case, done),
            *(proposed, done),
        )

    def _time(self) -> str:
        moment = datetime.fromtimestamp(self._now(), UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def reviewer(name: str) -> str:
    """A reviewer's name, stripped; ``UserError`` if it is invalid."""
    name = " ".join(name.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise UserError(
            f"{name[:80]!r} is not a reviewer's name; a name has 1 to {LONGEST_NAME} printable "
            "characters"
        )
    return name


def _stamp(folder: Path) -> list[tuple[int, int]]:
    """Changes when the findings or the table do."""
    found = []
    for path in (folder / FINDINGS_FILE, folder / DECISIONS_FILE):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; open it again") from None
        found.append((status.st_ino, status.st_mtime_ns))
    return found

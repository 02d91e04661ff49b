"""The state after all events: the decision on each case, conflicts, and undone events.

It depends only on the sequence of events, so it is the same in every process.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from curation.noise.decisions import About, Decision
from curation.noise.overrides import contradict
from curation.review.events import ReviewEvent

DEEPEST_UNDO = 100
"""Maximum depth of undos that undo other undos"""


@dataclass(frozen=True)
class Conflict:
    """Decisions that contradict each other."""

    about: About
    """The image, or the identity as a whole"""
    events: tuple[ReviewEvent, ...]


class Standing:
    """Applies events one by one; those on other ``findings`` are set aside."""

    def __init__(self, findings: Collection[str]) -> None:
        self._findings = frozenset(findings)
        self.events: list[ReviewEvent] = []
        self.set_aside = 0
        """Number of events on other findings"""
        self._changed: dict[About, int] = {}
        """The number of the last event that changed an image or whole identity"""
        self._changed_within: dict[int, int] = {}
        """The same for an identity or any image of it"""
        self._number: dict[str, int] = {}
        self._alive: set[str] = set()
        self._undone_by: dict[str, str] = {}
        self._of_case: dict[str, list[str]] = defaultdict(list)
        self._effective: dict[str, str] = {}
        self._about: dict[About, dict[str, list[Decision]]] = {}
        self._contradicting: set[About] = set()
        self._unjudged: set[About] = set()
        """Subjects to look at for contradictions; judged together, since one can have many lines"""
        self._against: dict[str, None] = {}
        """Cases with two independent decisions"""

    def __len__(self) -> int:
        return len(self.events)

    def add(self, event: ReviewEvent) -> set[int]:
        """Apply an event; return the identities that it concerns. A known event changes nothing."""
        if event.id in self._number:
            return set()
        self.events.append(event)
        self._number[event.id] = len(self.events)
        if event.findings not in self._findings:
            self.set_aside += 1
            return set()
        self._alive.add(event.id)
        if event.undoes is None:
            self._of_case[event.case].append(event.id)
        else:
            self._undo(event)
        return self._refresh(event)

    def event(self, event_id: str) -> ReviewEvent | None:
        """The event with this id."""
        number = self._number.get(event_id)
        return None if number is None else self.events[number - 1]

    def number(self, event_id: str) -> int:
        """Its position in the log, from 1."""
        return self._number[event_id]

    def is_alive(self, event: ReviewEvent) -> bool:
        """Whether the event is in effect: it concerns these findings and is not undone."""
        return event.id in self._alive

    def is_undone_too_often(self, event: ReviewEvent) -> bool:
        """Whether another undo of this event would be deeper than ``DEEPEST_UNDO``."""
        return sum(1 for _ in self._undone(event)) >= DEEPEST_UNDO - 1

    def undone_by(self, event: ReviewEvent) -> ReviewEvent | None:
        """The event that undid it."""
        undo = self._undone_by.get(event.id)
        return None if undo is None or self.is_alive(event) else self.event(undo)

    def decision(self, case: str) -> ReviewEvent | None:
        """The current decision on a case; None if undecided."""
        found = self._effective.get(case)
        return None if found is None else self.event(found)

    def decided(self) -> Iterator[ReviewEvent]:
        """The current decision on every decided case."""
        for event_id in self._effective.values():
            yield self.events[self._number[event_id] - 1]

    def about(self, subject: About) -> list[Decision]:
        """All decision lines on an image or a whole identity."""
        return [line for lines in self._about.get(subject, {}).values() for line in lines]

    def about_images(self, images: Iterable[int]) -> dict[int, list[Decision]]:
        """The same for many images, without those that have none."""
        known = self._about
        return {i: self.about((None, i)) for i in images if (None, i) in known}

    def last_change(self, lines: Iterable[Decision]) -> int:
        """The number of the last event that changed the subjects of these lines; 0 for none.

        A change to a whole identity concerns each of its images; a change to an image concerns
        decisions on the whole identity.
        """
        last = 0
        for line in lines:
            last = max(last, self._changed.get(line.about, 0))
            for identity in _identities([line]):
                whole = self._changed.get((identity, None), 0)
                last = max(
                    last, whole if line.image is not None else self._changed_within.get(identity, 0)
                )
        return last

    def merged_into(self, identity: int) -> int | None:
        """The identity that a decision merges this one into."""
        lines = self.about((identity, None))
        return next((d.into for d in lines if d.apply and d.action == "merge"), None)

    def after_undo(self, event: ReviewEvent) -> ReviewEvent | None:
        """The decision on the event's case if the event were undone."""
        alive = self._alive - {event.id}
        if event.undoes is not None:
            alive |= {event.undoes}
        left = [one for one in self._of_case[event.case] if one in alive]
        return self._known(left[-1]) if left else None

    def cases_about(self, subject: About) -> Iterator[str]:
        """The cases whose decisions change an image or a whole identity."""
        lines = self._about.get(subject, {})
        return (case for case, own in lines.items() if any(line.apply for line in own))

    def conflicts(self) -> list[Conflict]:
        """All conflicts, in the order of their newest decisions."""
        self._judge()
        found = []
        for case in self._against:
            pair = tuple(map(self._known, self._last_two(case)))
            found.append(Conflict(_subject_of(pair), pair))
        for subject in self._contradicting:
            events = tuple(self._known(self._effective[case]) for case in self._about[subject])
            found.append(Conflict(subject, events))
        return sorted(found, key=self._age)

    def _age(self, conflict: Conflict) -> tuple[int, str]:
        return max(self._number[event.id] for event in conflict.events), str(conflict.about)

    def _known(self, event_id: str) -> ReviewEvent:
        return self.events[self._number[event_id] - 1]

    def _undo(self, undo: ReviewEvent) -> None:
        for depth, target in enumerate(self._undone(undo)):
            # Undoing an undo restores its target.
            (self._alive.add if depth % 2 else self._alive.discard)(target.id)
            self._undone_by[target.id] = undo.id

    def _undone(self, undo: ReviewEvent) -> Iterator[ReviewEvent]:
        """The event that it undoes, the one that this undoes, and so on.

        In a damaged log, events may undo themselves or later ones; these are left out.
        """
        event = undo
        for _ in range(DEEPEST_UNDO):
            number = self._number.get(event.undoes or "")
            if number is None or number >= self._number[event.id]:
                return
            yield (event := self.events[number - 1])

    def _refresh(self, event: ReviewEvent) -> set[int]:
        """Update the state that depends on the decision on the event's case."""
        case = event.case
        touched = self._drop_lines(case)
        newest = next((one for one in reversed(self._of_case[case]) if one in self._alive), None)
        last = None if newest is None else self._known(newest)
        is_against = last is not None and last.against in self._alive
        if is_against:
            self._against[case] = None
        else:
            self._against.pop(case, None)
        if last is None:
            self._effective.pop(case, None)
        else:
            self._effective[case] = str(last.against) if is_against else last.id
            touched |= self._add_lines(case)
        return touched

    def _last_two(self, case: str) -> tuple[str, str]:
        last = self._known([one for one in self._of_case[case] if one in self._alive][-1])
        return str(last.against), last.id

    def _drop_lines(self, case: str) -> set[int]:
        event = self.decision(case)
        if event is None:
            return set()
        lines = event.decisions()
        for subject in {line.about for line in lines}:
            cases = self._about[subject]
            del cases[case]
            if not cases:
                del self._about[subject]
            self._unjudged.add(subject)
        return self._note_change(lines)

    def _add_lines(self, case: str) -> set[int]:
        lines = self._known(self._effective[case]).decisions()
        for line in lines:
            self._about.setdefault(line.about, {}).setdefault(case, []).append(line)
        self._unjudged.update(line.about for line in lines)
        return self._note_change(lines)

    def _note_change(self, lines: list[Decision]) -> set[int]:
        """Record the change; return the identities that the lines modify."""
        now, done = len(self.events), [line for line in lines if line.apply]
        found = _identities(done)
        self._changed.update((line.about, now) for line in done)
        merged = (line.into for line in done if line.action == "merge")
        self._changed.update(((into, None), now) for into in merged)
        self._changed_within.update(dict.fromkeys(found, now))
        return found

    def _judge(self) -> None:
        """Look for contradictions among the decisions on each subject that has changed."""
        self._contradicting -= self._unjudged
        for subject in self._unjudged:
            if len(self._about.get(subject, ())) > 1 and contradict(self.about(subject)):
                self._contradicting.add(subject)
        self._unjudged.clear()


def _subject_of(events: tuple[ReviewEvent, ...]) -> About:
    lines = [line for event in events for line in event.decisions()]
    return lines[0].about if lines else (0, None)


def _identities(lines: list[Decision]) -> set[int]:
    """The identities whose images these decisions change or may change."""
    found = {line.identity for line in lines}
    return found | {d.into for d in lines if d.action in ("move", "merge") and d.into is not None}

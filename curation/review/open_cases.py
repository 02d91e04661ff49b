"""Determines which cases are still to be decided."""

from collections.abc import Iterable

from curation.review.cases import NONE, Cases, GroupedCases
from curation.review.events import ReviewEvent
from curation.review.standing import Standing


class OpenCases:
    """The set of open cases, updated event by event."""

    def __init__(self, cases: Cases, standing: Standing) -> None:
        self._cases, self._standing = cases, standing
        self._by_identity = GroupedCases(cases)
        under = cases.under
        is_under = (under != NONE) & (cases.is_mirrored | ~cases.settled[under])
        self.open = ~(cases.settled | is_under)
        """bool ``[C]``"""

    def update(self, event: ReviewEvent, touched: Iterable[int]) -> None:
        """Update after ``event``, which the standing has applied and which touched these
        identities.
        """
        case = self._cases.find(event.case)
        affected = set() if case is None else {case, *self._by_identity.under(case)}
        for identity in touched:
            affected.update(self._by_identity.of(identity))
        for each in affected:
            self.open[each] = not self._is_closed(each)

    def _is_closed(self, case: int) -> bool:
        key, under = self._cases.key(case), int(self._cases.under[case])
        if self._cases.settled[case] or self._standing.decision(key) is not None:
            return True
        if under != NONE and (self._cases.is_mirrored[case] or not self._is_rejected(under)):
            return True
        identity, image = int(self._cases.identity[case]), self._cases.image(case)
        about = self._standing.cases_about
        if image is not None and any(other != key for other in about((None, image))):
            return True
        whole = self._standing.about((identity, None))
        if any(line.apply and line.action == "drop-identity" for line in whole):
            return True
        if not self._cases.checks[self._cases.check[case]].merge_column:
            return False
        rival = int(self._cases.rival[case])
        pair = [*whole, *self._standing.about((rival, None))]
        return any(line.apply and {line.identity, line.into} == {identity, rival} for line in pair)

    def _is_rejected(self, case: int) -> bool:
        event = self._standing.decision(self._cases.key(case))
        return bool(self._cases.settled[case]) if event is None else event.confirmed is False

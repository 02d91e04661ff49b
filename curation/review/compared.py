"""The images of evaluation sets that flagged identities resemble."""

from functools import cached_property

from curation.errors import UserError
from curation.noise.findings import Findings
from curation.report.siblings import checked_sets, sibling_pairs
from curation.review.cases import Cases


class ComparedPictures:
    """Image files of evaluation sets; only those named by a case are kept.

    The sets are searched beside the store, like in ``curate check``, on first use.
    """

    def __init__(self, cases: Cases, findings: Findings) -> None:
        self._cases, self._findings = cases, findings

    def get(self, place: int, image: int) -> bytes | None:
        """The file of an image of set number ``place``; None if that set is unavailable."""
        return self._pictures.get((place, image))

    @cached_property
    def _pictures(self) -> dict[tuple[int, int], bytes]:
        named = self._named()
        if not named:
            return {}
        sets = checked_sets(self._findings, sibling_pairs(self._cases.images))
        return {
            (place, image): pairs.images[image]
            for place, (_, pairs) in enumerate(sets)
            for image in named.get(place, ())
            if pairs is not None and image < len(pairs.images)
        }

    def _named(self) -> dict[int, set[int]]:
        """The named images of each set, by its index."""
        found: dict[int, set[int]] = {}
        for case, check in enumerate(self._cases.check.tolist()):
            if not self._cases.checks[check].uses_evaluation_sets:
                continue
            try:
                evidence = self._cases.checks[check].evidence(self._cases.scored(case))
            except IndexError as error:
                raise UserError(f"{self._findings.path} is damaged: {error}") from None
            for face in evidence.faces:
                if face.evaluation is not None:
                    found.setdefault(face.evaluation, set()).add(face.image)
        return found

"""The pictures of evaluation sets that flagged identities resemble."""

from functools import cached_property

from curation.errors import UserError
from curation.noise.findings import Findings
from curation.report.siblings import checked_sets, sibling_pairs
from curation.review.cases import Cases


class ComparedPictures:
    """Image files of evaluation sets, of which only those are kept that a case names.

    The sets are looked for beside the store, as ``curate check`` does, when the first is asked for.
    """

    def __init__(self, cases: Cases, findings: Findings) -> None:
        self._cases, self._findings = cases, findings

    def get(self, place: int, image: int) -> bytes | None:
        """The file of an image of the set at ``place``; None where that set is not at hand."""
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
        """Images by the place of their set."""
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

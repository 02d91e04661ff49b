"""The interface of a noise check: one class in one file of ``curation/noise/checks/``.

Every check defines ``score``. Override the other methods to propose, explain or show something
other than the default::

    @check("dark", "image", explanation=Explanation("Dark images", "Hardly any light."))
    class Dark(NoiseCheck):
        def score(self, context, progress=None):
            light = ...
            return self.finding(1 - light, {"light": light}, f"{(light < 0.5).sum():,} are dark")

Scores are probabilities of an error from 0 to 1; scores above one half are flagged.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.noise.decisions import Decision
from curation.noise.embedded import EmbeddedImages, EvaluationImages
from curation.noise.findings import CHECK_NAME, Finding, Findings, FindingsMeta, Subject, damaged
from curation.noise.label_errors import LabelErrors
from curation.noise.presentation import Evidence, Explanation, ScoredSubject
from curation.progress import Progress
from curation.registry import check_unused, import_files

FLAG = 0.5
LAST = 1_000
CHECKS_PACKAGE = "curation.noise.checks"
MEMBERSHIP = "membership"
"""Its file is stored beside those of the checks, so no check may have this name"""


@dataclass(frozen=True)
class Context:
    """The input of a check: images, their embeddings, label-error estimates, evaluation sets."""

    images: ImageSet
    embedded: EmbeddedImages
    label_errors: LabelErrors
    evaluation: Sequence[EvaluationImages] = ()


@dataclass
class Fates:
    """The proposals made so far: at most one for each image and each identity."""

    images: EmbeddedImages
    findings: Mapping[str, Finding]
    """The findings of all checks that were run"""
    settled: np.ndarray = field(init=False)
    """bool ``[N]``: images with a proposal"""
    gone: np.ndarray = field(init=False)
    """bool ``[K]``: identities to be dropped"""

    def __post_init__(self) -> None:
        self.settled = np.zeros(len(self.images), bool)
        self.gone = np.zeros(self.images.identities, bool)


@dataclass(frozen=True)
class NoiseCheck:
    """A check. The default, also used for a check whose file was removed, drops flagged images."""

    name: str
    subject: Subject
    explanation: Explanation
    order: float = LAST
    """Checks run in ascending order"""
    precedence: float = LAST
    """Of two checks that flag the same subject, the one with the lower number decides"""

    scores_all = True
    """Whether it scores every image or identity, by ascending index"""
    uses_evaluation_sets = False
    """Whether it runs again when the evaluation sets have changed"""
    own_similarity = ""
    """The evidence column, if any, with each image's similarity to its own identity"""
    rival_column = ""
    """The evidence column, if any, with the identity that a subject is compared with"""
    merge_column = ""
    """The evidence column, if any, with the identity that a subject should be merged with"""

    def score(self, context: Context, progress: Progress | None = None) -> Finding:
        """Score the subjects; the docstring names the columns of the evidence."""
        raise NotImplementedError

    def verify(self, finding: Finding, meta: FindingsMeta) -> None:
        """Raise ``ValueError`` if evidence that was read from a file is invalid."""

    def propose(self, finding: Finding, fates: Fates) -> Iterator[Decision]:
        """Propose decisions on flagged subjects without one, and record them in ``fates``.

        An image check drops the images by default. An identity check proposes nothing by default.
        """
        if self.subject == "identity":
            return
        for at in np.flatnonzero(finding.flagged).tolist():
            image = int(finding.subjects[at])
            if not fates.settled[image]:
                fates.settled[image] = True
                identity, score = int(fates.images.labels[image]), float(finding.scores[at])
                yield Decision("drop", identity, image, score=score, note=self.note(finding, at))

    def note(self, finding: Finding, at: int) -> str:
        """The note of the proposal to drop the image at this position."""
        return ""

    def propose_one(self, one: ScoredSubject) -> list[Decision]:
        """The decisions of accepting a subject in the report that is not flagged."""
        return [] if self.subject == "identity" else [Decision("drop", one.identity, one.index)]

    def evidence(self, one: ScoredSubject) -> Evidence:
        """What the report shows about a subject."""
        return one.shown()

    def finding(
        self,
        scores: np.ndarray,
        evidence: Mapping[str, np.ndarray],
        summary: str,
        subjects: np.ndarray | None = None,
        images: Mapping[str, np.ndarray] | None = None,
    ) -> Finding:
        """The finding of this check, with scores ``[S]`` of ``subjects`` ``[S]``, by default of
        all.

        Raises ``ValueError`` if a score is not a probability.
        """
        subjects = np.arange(len(scores)) if subjects is None else subjects
        scores = np.asarray(scores, np.float32)
        if not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError(f"{self.name} has scores that are not from 0 to 1")
        flagged = scores > FLAG
        return Finding(
            self.name, self.subject, subjects, scores, flagged, evidence, summary, images or {}
        )


_CHECKS: dict[str, NoiseCheck] = {}


def check(
    name: str,
    subject: Subject,
    *,
    explanation: Explanation,
    order: float = LAST,
    precedence: float = LAST,
) -> Callable[[type[NoiseCheck]], type[NoiseCheck]]:
    """Register the class of a check under its name, which must be the name of its file."""

    def enter(made: type[NoiseCheck]) -> type[NoiseCheck]:
        before = _CHECKS.get(name)
        check_unused("check", name, before and type(before), made)
        if re.fullmatch(CHECK_NAME, name) is None or name == MEMBERSHIP:
            raise UserError(f"{made.__module__}: a check cannot be called {name!r}")
        if made.__module__.rpartition(".")[2] != name:
            raise UserError(f"{made.__module__}: the file of the check {name!r} is {name}.py")
        if made.score is NoiseCheck.score:
            raise UserError(f"{made.__module__}: the check {name!r} has no method score")
        _CHECKS[name] = made(name, subject, explanation, order, precedence)
        return made

    return enter


def all_checks() -> dict[str, NoiseCheck]:
    """All checks by name, in the order in which they run."""
    import_files(CHECKS_PACKAGE)
    return {one.name: one for one in sorted(_CHECKS.values(), key=lambda c: (c.order, c.name))}


def check_of(finding: Finding) -> NoiseCheck:
    """The check that made the finding; a default one if its file was removed."""
    known = all_checks().get(finding.check)
    if known is not None:
        return known
    what = "images" if finding.subject == "image" else "identities"
    explanation = Explanation(
        f"{finding.check.capitalize()} {what}", f"The check {finding.check!r} scored these {what}."
    )
    return NoiseCheck(finding.check, finding.subject, explanation)


def load_finding(findings: Findings, name: str) -> Finding:
    """The verified finding of a check; ``UserError`` if it is damaged."""
    finding = findings.load(name)
    made_by = check_of(finding)
    if made_by.subject != finding.subject:
        raise UserError(
            f"{findings.path} is damaged: {name} is about each {made_by.subject}, not each "
            f"{finding.subject}; check again"
        )
    try:
        made_by.verify(finding, findings.meta)
    except ValueError as error:
        raise damaged(findings.path / f"{name}.npz", error) from None
    return finding

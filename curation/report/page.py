"""Renders the page from templates and writes it to one file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from curation.errors import UserError
from curation.files import atomic_file
from curation.image_set import ImageSet
from curation.noise.check import load_finding
from curation.noise.findings import Findings
from curation.pages.rendering import digest_for_policy, environment, style, trusted
from curation.pairs import VerificationPairs
from curation.progress import Progress
from curation.report.cases import CheckSection, check_section
from curation.report.funnel import funnel
from curation.report.gallery import open_gallery
from curation.report.histogram import bar_height, size_histograms
from curation.report.proposals import Proposals, as_json
from curation.report.siblings import decisions_of, set_and_views
from curation.unlabelled import with_each_alone
from curation.views import View

TEMPLATES = Path(__file__).parent / "templates"
EXAMPLES = 24
"""Worst and borderline cases per check: a page of a few megabytes."""


@dataclass(frozen=True)
class WrittenReport:
    """A summary of the written report."""

    path: Path
    bytes: int
    checks: int
    cases: int


def write_report(
    path: Path,
    images: ImageSet,
    findings: Findings | None = None,
    views: Sequence[View] = (),
    evaluation: Sequence[VerificationPairs] = (),
    examples: int = EXAMPLES,
    progress: Progress | None = None,
) -> WrittenReport:
    """Write the page about ``images`` to ``path``; the same input gives the same bytes.

    ``findings`` must belong to ``images``. ``views`` of the same store appear in the funnel.
    ``progress`` counts checks. Raises ``UserError`` if findings or images cannot be read, or
    ``path`` cannot be written.
    """
    sections = _sections(images, findings, evaluation, examples, progress)
    text = _render(images, findings, sections, set_and_views(images, views)).encode()
    try:
        with atomic_file(path) as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    return WrittenReport(
        path, len(text), len(sections), sum(len(entry.cases) for entry in sections)
    )


def _sections(
    images: ImageSet,
    findings: Findings | None,
    evaluation: Sequence[VerificationPairs],
    examples: int,
    progress: Progress | None,
) -> list[CheckSection]:
    if findings is None:
        return []
    images = with_each_alone(images)
    gallery = open_gallery(images, findings, evaluation)
    proposals = Proposals(decisions_of(findings))
    sections = []
    for done, summary in enumerate(findings.meta.checks):
        if progress is not None:
            progress(done, len(findings.checks))
        finding = load_finding(findings, summary.check)
        try:
            sections.append(check_section(gallery, proposals, summary, finding, examples))
        except IndexError:
            raise UserError(
                f"{findings.path / summary.check}.npz is damaged: it names subjects missing in "
                f"{images.path}; check again"
            ) from None
    if progress is not None:
        progress(len(sections), len(sections))
    return sections


def _render(
    images: ImageSet,
    findings: Findings | None,
    sections: list[CheckSection],
    sets: Sequence[ImageSet],
) -> str:
    script = (TEMPLATES / "page.js").read_text("utf-8")
    lines = {case.key: case.decisions for section in sections for case in section.cases}
    templates = environment(TEMPLATES)
    templates.globals |= {"bar_height": bar_height}
    return templates.get_template("page.html").render(
        images=images,
        meta=None if findings is None else findings.meta,
        sections=sections,
        steps=funnel(sets),
        sizes=size_histograms(sets),
        style=style(TEMPLATES / "report.css"),
        script=trusted(script),
        script_digest=digest_for_policy(script),
        decisions=trusted(as_json(images.digest, lines)),
    )  # fmt: skip

"""The recipe steps that find noise, remove it, and report it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.noise.analysis import find_noise
from curation.noise.clean import CLEAN, decisions_digest, write_clean
from curation.noise.decisions import DECISIONS_FILE, Decision
from curation.noise.findings import FINDINGS_FILE, Findings, findings_folder
from curation.progress import Progress, Say, StepDisplay, silent
from curation.recipes.context import RecipeContext, StepResult
from curation.recipes.file import CheckStep, CleanStep, ReportStep, ScoreStep
from curation.recipes.pair_steps import readable_pairs
from curation.recipes.view_steps import ExpectedStep, make_view
from curation.review.outcome import decisions_to_carry_out

NO_TEACHER = "no teacher; give --teacher FILE.onnx (or a finished job) to find noise"
EARLIER = "earlier findings are kept; --teacher runs the checks again"


def check_images(
    step: CheckStep, context: RecipeContext, title: str, watch: StepDisplay
) -> StepResult:
    """Run the checks on the images with the given teacher, or else the recipe's."""
    images = context.parent(step.of)
    folder = findings_folder(images)
    embedder = context.embedder(step)
    if embedder is None:
        note = EARLIER if _findings(images) is not None else NO_TEACHER
        return StepResult(folder, "skipped", note=note)
    before = _stamp(folder)
    findings = find_noise(
        images,
        embedder,
        readable_pairs(images.store.path.parent),
        watch=lambda what, unit: watch(f"{title}: {what}", unit),
        say=context.say,
    )
    flagged = ", ".join(f"{one.flagged:,} {one.check}" for one in findings.meta.checks)
    return StepResult(
        folder, "findings", len(images), images.identities, _stamp(folder) == before, flagged
    )


def clean_images(
    step: CleanStep,
    checked: CheckStep | None,
    context: RecipeContext,
    title: str,
    watch: StepDisplay,
) -> Iterator[StepResult]:
    """Make the view after the current decisions; update it if they have changed.

    In further rounds the cleaned images are checked as in ``checked`` and cleaned again.
    """
    of, note = step.of, ""
    for number in range(1, context.rounds_of(step)):
        decisions = _decisions(context.parent(of))
        if decisions is None or (number > 1 and _is_little(decisions, step, context.parent(of))):
            break
        made = _clean(of, f"{step.to}-{number}", context)
        if made.kind != "view":
            break
        yield made
        of = f"{step.to}-{number}"
        again = CheckStep(do="check", of=of, teacher=None if checked is None else checked.teacher)
        yield check_images(again, context, f"{title}, round {number + 1}", watch)
        if (decisions := _decisions(context.parent(of))) is None:
            break
        changed = sum(decision.apply for decision in decisions)
        note = f"round {number + 1}: {changed:,} decisions"
    with watch(title, step.unit):
        made = _clean(of, step.to, context)
    yield replace(made, note="; ".join(filter(None, (note, made.note))))


def _is_little(decisions: Sequence[Decision], step: CleanStep, images: ImageSet) -> bool:
    return sum(decision.apply for decision in decisions) < step.until * len(images)


def _clean(of: str, to: str, context: RecipeContext) -> StepResult:
    images = context.parent(of)
    folder = findings_folder(images)
    path = context.target / f"{to}.view"
    if not (folder / DECISIONS_FILE).exists():
        return StepResult(path, "skipped", note="nothing was checked")
    if (decisions := _decisions(images, context.say)) is None:
        return StepResult(
            path,
            "skipped",
            note=f"{folder.name} was made for earlier contents of {images.path.name}",
        )
    return make_view(
        context,
        to,
        images,
        ExpectedStep(CLEAN, {"decisions": decisions_digest(decisions)}),
        lambda place, parent: write_clean(place, parent, decisions),
    )


def _decisions(images: ImageSet, say: Say = silent) -> list[Decision] | None:
    """The decisions on the current images; None if there are none, or they are for other images."""
    folder = findings_folder(images)
    table = folder / DECISIONS_FILE
    if not table.exists() or ((folder / FINDINGS_FILE).exists() and _findings(images) is None):
        return None
    return decisions_to_carry_out(None, [], images, folder, say)


def report_on_images(
    step: ReportStep, context: RecipeContext, progress: Progress | None
) -> StepResult:
    """Write the page about the images, their views and their findings."""
    from curation.report.page import write_report
    from curation.report.siblings import sibling_pairs, sibling_views

    images = context.parent(step.of)
    path = images.path.with_name(f"{images.name}.report.html")
    written = write_report(
        path,
        images,
        _findings(images),
        sibling_views(images),
        sibling_pairs(images),
        progress=progress,
    )
    return StepResult(path, "report", note=f"{written.cases:,} cases to review")


def _findings(images: ImageSet) -> Findings | None:
    """The findings on the images; None if there are none."""
    from curation.report.siblings import sibling_findings

    try:
        return sibling_findings(images)
    except UserError:
        return None


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Changes whenever the findings do."""
    try:
        status = (folder / FINDINGS_FILE).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def score_against_truth(step: ScoreStep, context: RecipeContext) -> Iterator[StepResult]:
    """Report per check how many of the sample's faults it found, and how many of its flags are
    right.
    """
    from curation.sample.ground_truth import read_truth
    from curation.sample.scoring import score_findings

    images = context.parent(step.of)
    folder = findings_folder(images)
    if not (folder / FINDINGS_FILE).exists():
        yield StepResult(folder, "skipped", note="nothing was checked")
        return
    for one in score_findings(Findings(folder, images), images, read_truth(context.source)):
        yield StepResult(folder / f"{one.check}.npz", "score", note=str(one))

"""The steps of a recipe that look for what is wrong, act on it, and show it."""

from collections.abc import Iterator

from curation.errors import UserError
from curation.noise.analysis import evaluation_sets, look
from curation.noise.clean import decisions_digest, write_clean
from curation.noise.decision_table import read_decisions
from curation.noise.decisions import DECISIONS_FILE
from curation.noise.findings import FINDINGS_FILE, Findings
from curation.noise.kept import findings_folder
from curation.progress import Progress, Watch
from curation.recipes.file import Check, Clean, Mark, Report
from curation.recipes.kitchen import Kitchen, Made
from curation.views import View

NO_TEACHER = "no teacher; say --teacher FILE.onnx (or a finished job) to look for noise"


def check_images(step: Check, kitchen: Kitchen, title: str, watch: Watch) -> Made:
    """Findings on the images, by the teacher that was asked for, else the recipe's."""
    images = kitchen.parent(step.of)
    folder = findings_folder(images)
    choice = kitchen.teacher or step.teacher
    if choice is None or kitchen.open_eyes is None:
        return Made(folder, "skipped", note=NO_TEACHER)
    looked = (folder / DECISIONS_FILE).exists()
    eyes = kitchen.open_eyes(choice)
    findings = look(
        images,
        eyes,
        evaluation_sets(images),
        watch=lambda what, unit: watch(f"{title}: {what}", unit),
    )
    flagged = ", ".join(f"{one.flagged:,} {one.check}" for one in findings.meta.checks)
    return Made(folder, "findings", len(images), images.identities, looked, flagged)


def clean_images(step: Clean, kitchen: Kitchen) -> Made:
    """The view after the decisions as they stand; refused where it was made after other ones."""
    images = kitchen.parent(step.of)
    path = kitchen.target / f"{step.to}.view"
    table = findings_folder(images) / DECISIONS_FILE
    if not table.exists():
        return Made(path, "skipped", note="nothing was checked")
    decisions = read_decisions(table, images.digest)
    written = path.exists()
    view = View(path) if written else write_clean(path, images, decisions)
    if view.history[-1].parameters.get("decisions") != decisions_digest(decisions):
        raise UserError(
            f"{path} was made after other decisions than {table} has now; "
            "take it away to make it again"
        )
    return Made(path, "view", len(view), view.identities, written)


def report_on_images(step: Report, kitchen: Kitchen, progress: Progress | None) -> Made:
    """The page about the images, their views, and what was found."""
    from curation.report.beside import findings_beside, pairs_beside, views_beside
    from curation.report.page import write_report

    images = kitchen.parent(step.of)
    path = images.path.with_name(f"{images.name}.report.html")
    written = write_report(
        path,
        images,
        findings_beside(images),
        views_beside(images),
        pairs_beside(images),
        progress=progress,
    )
    return Made(path, "report", note=f"{written.cases:,} cases to look at")


def mark_findings(step: Mark, kitchen: Kitchen) -> Iterator[Made]:
    """One line a check: how many of the sample's faults it found, how many flags are right."""
    from curation.sample.marking import mark
    from curation.sample.truth import read_truth

    images = kitchen.parent(step.of)
    folder = findings_folder(images)
    if not (folder / FINDINGS_FILE).exists():
        yield Made(folder, "skipped", note="nothing was checked")
        return
    for one in mark(Findings(folder), images, read_truth(kitchen.source)):
        yield Made(folder / f"{one.check}.npz", "mark", note=str(one))

"""`distill threshold`: chooses the cosine threshold on the user's own data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill.cli.bars import watch_phases
from distill.cli.common import RESULTS, JsonOption, WorkspaceOption, print_json
from distill.cli.model_options import ModelFileOptions
from distill.cli.option_groups import grouped
from distill.cli.reports import shown
from distill.cli.scored import (
    ModelArgument,
    SetOptions,
    SetsArgument,
    open_faces,
    open_model,
    shown_interval,
)
from distill.cli.screen import note, say

if TYPE_CHECKING:
    from curation.image_set import ImageSet
    from curation.pairs import VerificationPairs
    from curation.workspace import Workspace


def register(app: typer.Typer) -> None:
    """Add the command to ``distill``."""
    app.command(rich_help_panel=RESULTS)(threshold)


@grouped
def threshold(
    model: ModelArgument,
    sets: SetsArgument,
    far: Annotated[str, typer.Option(help="The false accept rate: 1e-2, 1e-3 ... 1e-8.")] = "1e-3",
    into: Annotated[
        Path | None,
        typer.Option(
            help="Copy the bundle MODEL to this folder, with the thresholds measured on these sets."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a different bundle at --into.")
    ] = False,
    *,
    of_sets: SetOptions,
    file: ModelFileOptions,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Choose the threshold for your own data: the cosine above which two faces are one person.

    Thresholds depend on the people, the camera and quantisation, so measure them on images like
    those of the application. With several sets, the one with the most impostor pairs decides.

    Example: distill threshold student office/all --far 1e-4

    Example: distill threshold student office/all --far 1e-4 --into bundles/student-office
    """
    from curation.errors import UserError
    from curation.workspace import Workspace
    from distill.evaluation.evaluate_sets import evaluate as score
    from distill.evaluation.rates import EXPONENTS
    from distill.export.remeasured import check_describable

    place = Workspace.locate(workspace)
    if far not in (rates := [f"1e-{exponent}" for exponent in EXPONENTS]):
        raise UserError(f"--far {far}: allowed are {', '.join(rates)}")
    bundle = None if into is None else _bundle(model, place)
    if bundle is not None and into is not None:
        check_describable(bundle)
        _check_into(into)
    answers = open_model(model, file, place)
    opened = [open_faces(name, place, of_sets) for name in sets]
    _check_far(opened, far)
    with watch_phases(("evaluate", "compare"), "images") as (progress, scanned):
        report = score(answers, opened, progress, scanned=scanned)
    found = report["thresholds"]["false_accept_rates"][far]
    if found is None:
        raise _unmeasured(far, {name: _why(each, far) for name, each in report["sets"].items()})
    measured = report["sets"][found["set"]]["tar_at_far"][far]
    if bundle is not None and into is not None:
        _write_copy(bundle, into, force, report)
    if json:
        print_json({"model": model, "far": far, **found, **measured})
        return
    say(
        f"same person where cosine > {found['threshold']:.4f} "
        f"(95 %: {shown_interval(measured.get('threshold_interval'))})"
    )
    say(
        f"at FAR {far} this accepts {found['tar']:.4f} of the genuine pairs "
        f"(95 %: {shown_interval(measured.get('interval'))})"
    )
    note(
        f"measured on {found['set']}: {shown(found['genuine'])} genuine and "
        f"{shown(found['impostors'])} impostor pairs, set {found['digest'][:12]}"
    )
    if into is not None:
        say(f"a copy of the bundle with these thresholds is in {into}")


def _check_far(sets: "list[VerificationPairs | ImageSet]", far: str) -> None:
    """Raise `UserError` if no set can measure the FAR, before embedding anything."""
    from distill.evaluation.measurable import planned_rates

    planned = {
        each.name: next(rate for rate in planned_rates(each) if rate.name == far) for each in sets
    }
    if all(rate.reason is not None for rate in planned.values()):
        raise _unmeasured(far, {name: str(rate.reason) for name, rate in planned.items()})


def _unmeasured(far: str, reasons: dict[str, str]) -> Exception:
    from curation.errors import UserError

    missing = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    return UserError(f"no set measures FAR {far}: {missing}; give a larger --far or a larger set")


def _why(report: dict[str, Any], far: str) -> str:
    return str(report["tar_at_far"][far].get("reason") or "not the largest")


def _bundle(model: str, place: "Workspace") -> Path:
    """The folder of the bundle that MODEL names."""
    from curation.errors import UserError
    from distill.pipeline.teacher_files import find_teacher, is_bundle

    path = find_teacher(model, place)
    if not is_bundle(path):
        raise UserError(f"--into copies a bundle, and {model} is not a bundle; leave it out")
    return path


def _check_into(into: Path) -> None:
    """Raise `UserError` if the folder cannot be created, before embedding anything."""
    from curation.errors import UserError
    from curation.files import can_make_files

    there = next(folder for folder in into.resolve().parents if folder.is_dir())
    if not can_make_files(there):
        raise UserError(f"cannot write to {there}: it is read-only; choose another --into")


def _write_copy(bundle: Path, into: Path, force: bool, report: dict[str, Any]) -> None:
    from distill.cli.bundles import write_changed
    from distill.export.remeasured import put_thresholds

    def change(copy: Path) -> None:
        put_thresholds(copy, report["sets"], report["thresholds"])

    write_changed(bundle, into, change, force)

"""The command `join`, which finds the people who are in both of two sets."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill.cli import completion
from distill.cli.bars import watch
from distill.cli.common import JsonOption, WorkspaceOption
from distill.cli.curate.places import locate, view_path
from distill.cli.curate.view.options import Destination, Parent
from distill.cli.model_options import TeacherOptions
from distill.cli.option_groups import grouped
from distill.cli.reports import print_report
from distill.cli.screen import note

if TYPE_CHECKING:
    from curation.joining import BothSets
    from curation.noise.decisions import Decision

SUFFIX = ".join.tsv"
"""Suffix of the table next to the view"""


def register(app: typer.Typer) -> None:
    """Add the command to ``curate``."""
    app.command()(join)


@grouped
def join(
    first: Parent,
    second: Parent,
    destination: Destination,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Match people by their faces, as `curate check` does: an .onnx file, a file of "
            "weights, a bundle, the name of a finished job, or drawn-faces.",
            show_default=False,
            autocompletion=completion.teachers,
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="name: match people by the names of their folders in the sources instead of by "
            "their faces.",
            show_default=False,
        ),
    ] = None,
    decisions: Annotated[
        Path | None,
        typer.Option(
            help="Skip matching and apply this table of an earlier join, as you edited it.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write only the table, for inspection, and no view.")
    ] = False,
    *,
    options: TeacherOptions,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Join two sets in a view of both stores, where people who are in both have one identity.

    NAME.join.tsv next to the view lists the matches with their probabilities: set a line's `apply`
    to no, or add a line, and apply it with --decisions. Nothing is copied.

    **Examples**

    `curate join ms1m/clean street/all ms1m/more --teacher sface.onnx --colour RGB --mean 0 --std 1`

    `curate join mine/2023 mine/2024 mine/all --by name --dry-run`

    `curate join mine/2023 mine/2024 mine/all --decisions all.join.tsv`
    """
    from curation.files import check_free
    from curation.joining import bring_together, write_join
    from curation.noise.decisions import decisions_with, read_decisions
    from curation.views import open_images
    from curation.workspace import Workspace

    _check_one_way(teacher, by, decisions)
    place = Workspace.locate(workspace)
    path = view_path(destination, place)
    table = decisions or path.with_suffix(SUFFIX)
    check_free(path, *([] if decisions else [table]))
    both = bring_together(open_images(locate(first, place)), open_images(locate(second, place)))
    if decisions is not None:
        found = read_decisions(decisions, both.images.digest)
    elif by is not None:
        from curation.joining import same_by_name

        found = same_by_name(both)
    else:
        found = _by_faces(both, options.choice(str(teacher)), place)
    count = sum(each.apply for each in found)
    result: dict[str, Any] = {"people_in_both": count, "table": str(table)}
    table.parent.mkdir(parents=True, exist_ok=True)
    written = decisions_with(table, both.images.digest, found)
    with nullcontext() if decisions else written:
        if not dry_run:
            made = write_join(path, both, found, by or ("decisions" if decisions else "teacher"))
            step = made.history[-1].model_dump(exclude={"other": {"history"}})
            result |= {
                "path": str(path),
                "images": len(made),
                "identities": made.identities,
                **step,
            }
    print_report(result | ({"people": _described(found)} if as_json else {}), as_json)
    if dry_run and not as_json:
        note(f"nothing else was written; inspect {table}, then apply it with --decisions")


def _by_faces(both: "BothSets", choice: Any, place: Any) -> "list[Decision]":
    from curation.joining import same_by_embeddings
    from distill.cli.curate.set_embedder import open_embedder

    return same_by_embeddings(both, open_embedder(choice, place, note), watch)


def _check_one_way(teacher: str | None, by: str | None, decisions: Path | None) -> None:
    from curation.errors import UserError

    if [teacher, by, decisions].count(None) != 2:
        raise UserError(
            "choose how people are matched: --teacher FILE (by their faces), --by name (by the "
            "folders of the sources), or --decisions TABLE (as a join wrote it)"
        )
    if by not in (None, "name"):
        raise UserError(f"--by is {by!r}; allowed: name")


def _described(found: "list[Decision]") -> list[dict[str, Any]]:
    return [
        {
            "identity": each.identity,
            "into": each.into,
            "score": round(each.score, 4),
            "note": each.note,
            "apply": each.apply,
        }
        for each in found
    ]

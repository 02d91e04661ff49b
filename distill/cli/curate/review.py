"""The command `review`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from distill.cli import completion
from distill.cli.common import JsonOption, WorkspaceOption, print_json
from distill.cli.curate.places import locate
from distill.cli.reports import print_report
from distill.cli.screen import note, say


def register(app: typer.Typer) -> None:
    """Add the command to ``curate``."""
    app.command()(review)


def review(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SET",
            help="A store or view with findings, by path or workspace name, or NAME.findings.",
            show_default=False,
            autocompletion=completion.image_sets,
        ),
    ],
    read: Annotated[
        list[Path] | None,
        typer.Option(
            help="Import decisions made elsewhere: a table (decisions.tsv, override.tsv) or the "
            "decisions.jsonl of another review. Repeat for more. Opens no page.",
            show_default="none",
        ),
    ] = None,
    who: Annotated[
        str,
        typer.Option(
            help="The reviewer's name to record for the tables of --read.", show_default=True
        ),
    ] = "table",
    status: Annotated[
        bool,
        typer.Option(
            "--status", help="Print the progress of the review instead of opening a page."
        ),
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port of the page.", show_default="8643")
    ] = None,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the link instead of opening a browser.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Review what was flagged, in a browser: every case with its faces, one key for each decision.

    Each decision is written to disk before it is acknowledged (decisions.jsonl in NAME.findings/).
    Several reviewers can work at the same time, and `curate clean` applies their decisions. Ctrl-C
    ends it.

    **Examples**

    `curate review ms1m/train`

    `curate review ms1m/train --read override.tsv --who ada`

    `curate review ms1m/train --status --json`
    """
    from curation.review.incoming import read_decided
    from curation.workspace import Workspace
    from distill.web.review.reviews import open_review

    place = Workspace.locate(workspace)
    path = locate(source, place)
    if not read and not status:
        _serve(path, place, port, only_print, as_json)
        return
    opened = open_review(path)
    reports: list[dict[str, Any]] = []
    for table in read or ():
        report = {"path": str(table), **vars(read_decided(opened, table, who))}
        reports.append(report)
        if report["left"]:
            note(
                f"{report['left']:,} lines of {table} name no check: `curate clean --override "
                f"{table}` applies them"
            )
        if not status and not as_json:
            print_report(_read_for_people(report), as_json)
    if as_json and not status:
        print_json(reports if len(reports) > 1 else reports[0])
    if status:
        found = _status(opened)
        print_report(found if as_json else _status_for_people(found), as_json)


def _read_for_people(report: dict[str, Any]) -> dict[str, Any]:
    return {
        "file": report["path"],
        "new decisions": report["decided"],
        "already decided so": report["known"],
        "conflicts": report["conflicts"],
        "lines without a check": report["left"],
    }


def _status_for_people(found: dict[str, Any]) -> dict[str, Any]:
    """The values of ``_status`` in fewer lines."""
    open_cases = {check: count for check, count in found["open_of_check"].items() if count}
    after = f"{found['images']:,} of {found['images_before']:,} images"
    shown = {
        "cases": found["cases"],
        "decided": _counts(found["decided"], found["choices"]),
        "by": _counts(None, found["reviewers"]),
        "settled": f"{found['settled']:,} by other decisions or an edited table",
        "open": _counts(found["open"], open_cases),
        "conflicts": found["conflicts"],
        "of other findings": found["set_aside"],
        "if applied now": f"{after}, {found['identities']:,} of {found['identities_before']:,} "
        "identities",
    }
    return shown | ({"calibration": found["calibration"]} if found["calibration"] else {})


def _counts(total: int | None, parts: dict[str, int]) -> str:
    """``122 (100 accept, 22 reject)``, or the parts alone."""
    listed = ", ".join(f"{count:,} {name}" for name, count in parts.items())
    if total is None:
        return listed or "-"
    return f"{total:,} ({listed})" if listed else f"{total:,}"


def _status(opened: Any) -> dict[str, Any]:
    from curation.review.outcome import cleaning_effect

    progress = vars(opened.progress())
    if progress["conflicts"]:
        note("reviewers contradict each other: settle it on the page of `curate review`")
    left = vars(cleaning_effect(opened.images.labels, opened.decisions()))
    calibration = [str(one) for one in opened.calibration()]
    return {**progress, **left, "calibration": calibration}


def _serve(path: Path, workspace: Any, port: int | None, only_print: bool, as_json: bool) -> None:
    import webbrowser

    from distill.web.review.alone import serve_review

    def ready(link: str) -> None:
        if as_json:
            print_json({"url": link})
        elif only_print:
            say(link)
        elif webbrowser.open(link):
            note("opened in the browser; Ctrl-C ends the review, and nothing is lost")
        else:
            note("there is no browser here; open this link in one (it works once):")
            say(link)

    progress = serve_review(path, workspace, port, ready)
    note(
        f"the review has ended; {progress.cases - progress.open:,} of {progress.cases:,} cases are "
        "decided and saved. The same command continues it, and `curate clean` applies the decisions"
    )

"""`distill open`: opens the pages of the workspace in a browser and signs in."""

from typing import Annotated

import typer

from curation.workspace import Workspace
from distill.cli import completion
from distill.cli.common import PLACE, JsonOption, WorkspaceOption, print_json
from distill.cli.screen import note, say


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("open", rich_help_panel=PLACE)(open_pages)


def open_pages(
    job: Annotated[
        str | None,
        typer.Argument(metavar="JOB", help="The page of this job.", autocompletion=completion.jobs),
    ] = None,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the link instead of opening a browser.")
    ] = False,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Open the pages of the workspace in a browser, already signed in.

    The link works once and expires after ten minutes. For a daemon on another machine, forward its
    port (`ssh -L 8642:127.0.0.1:8642 MACHINE`) and open the link that --print gives there.

    Example: distill open sample
    """
    import webbrowser

    from distill.daemon import client
    from distill.web.address import signed_in

    place = Workspace.locate(workspace)
    page = "/" if job is None else f"/jobs/{client.find_job(place, job).name}"
    link = signed_in(place, page)
    if json:
        print_json({"url": link})
    elif only_print:
        say(link)
    elif webbrowser.open(link):
        say("opened in the browser")
    else:
        note("there is no browser here; open this link in one (it works once):")
        say(link)

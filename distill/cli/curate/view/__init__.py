"""The command `view`, with one subcommand per kind of subset."""

import typer

from distill.cli.curate.view import by_list, by_number, by_redundancy, sets

HELP = """Make a subset without copying: a view, which stands in for a store everywhere.

Every view keeps its history; `curate inspect` shows it. Nothing is copied and nothing deleted.

**Examples**

`curate view retina-s ms1m/train ms1m/retina-s`

`curate view long-tail-cut ms1m/train ms1m/frequent --minimum 10`

`curate view difference ms1m/train ms1m/retina-s ms1m/head`
"""


COMMANDS = (
    *(by_number.long_tail_cut, by_number.retina_s, by_number.cap, by_number.random),
    *(
        by_number.quality,
        by_redundancy.prune,
        by_list.keep,
        by_list.drop,
        by_list.merge,
        by_list.split,
        by_list.relabel,
    ),
    *(sets.union, sets.intersection, sets.difference),
)


def register(app: typer.Typer) -> None:
    """Add the command to ``curate``."""
    view = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
    for command in COMMANDS:
        view.command()(command)
    app.add_typer(view, name="view", help=HELP)

"""The command that looks at networks: `backbones`."""

from typing import Annotated, Any

import typer

from distill.cli.common import JsonOption, print_json

CAPTION = """\
params, MAdds (conv + fc) and LFR FLOPs in millions; MiB as float32
below ours, what the paper prints; != is a figure that its layers do not give
inferred: some layers are our reading; --json says where each is published
every timm model is there too: timm/NAME"""
HEADERS = {"params": "params", "madds": "MAdds", "lfr_flops": "LFR FLOPs", "size_mib": "MiB"}


def register(app: typer.Typer) -> None:
    """Add the command to ``distill``."""
    app.command()(backbones)


def backbones(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="Only these.", show_default="every registered one"
        ),
    ] = None,
    latency: Annotated[
        bool, typer.Option("--latency", help="Time each on one CPU thread, batch 1, folded.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """List every network that a job spec can name, with its size and operations.

    MAdds are multiply-additions of convolutions and fully connected layers; LFR FLOPs are counted
    as the limit of 1 GFLOP of the LFR 2019 challenge is. Figures that the papers print stand
    beside ours.

    Example: distill backbones mobilefacenet vargfacenet --latency
    """
    from distill.catalogue import catalogue, describe

    known = {row["name"]: row for row in catalogue()}
    rows = [known.get(name) or describe(name) for name in names or known]
    if latency:
        _add_latency(rows)
    rows.sort(key=lambda row: (row["family"], row["madds"], row["name"]))
    if json:
        print_json(rows)
    else:
        _print_table(rows, latency)


def _add_latency(rows: list[dict[str, Any]]) -> None:
    from distill.catalogue import measure_latency
    from distill.cli.bars import watch

    with watch("timing networks", "networks") as progress:
        for done, row in enumerate(rows, start=1):
            row["latency_ms"] = measure_latency(row["name"])
            progress(done, len(rows))


def _print_table(rows: list[dict[str, Any]], latency: bool) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, caption=CAPTION, caption_justify="left", padding=(0, 1, 0, 0))
    table.add_column("name", overflow="fold")
    for header in HEADERS.values():
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("dims", justify="right")
    table.add_column("input")
    if latency:
        table.add_column("ms", justify="right")
    for row in rows:
        cells = [_cell(row, quantity) for quantity in HEADERS]
        size = "x".join(map(str, row["input_size"]))
        times = [f"{row['latency_ms']:.1f}"] if latency else []
        table.add_row(_name(row), *cells, str(row["embedding"]), size, *times)
    Console().print(table)


def _name(row: dict[str, Any]) -> str:
    """The name, and below it what is to be known where the layers are not all published."""
    return row["name"] if row["status"] == "exact" else f"{row['name']}\n[dim]{row['status']}[/dim]"


def _cell(row: dict[str, Any], quantity: str) -> str:
    """Our number, and below it, fainter, the paper's."""
    ours = row[quantity]
    digits = {"params": 3, "size_mib": 2}.get(quantity, 1)
    text = f"{ours if quantity == 'size_mib' else ours / 1e6:,.{digits}f}"
    figure = (row["paper"] or {"figures": {}})["figures"].get(quantity)
    if figure is None:
        return text
    mark = "" if figure["reproducible"] else "!= "
    return f"{text}\n[dim]{mark}{figure['printed']}[/dim]"

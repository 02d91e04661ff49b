"""The command `backbones`, which lists the networks."""

from typing import Annotated, Any

import typer

from distill.cli.common import NETWORKS, JsonOption, print_json
from distill.cli.reports import print_below, print_table

CAPTION = """\
params, MAdds (conv + fc) and LFR FLOPs in millions; MiB as float32
below: the figures that the paper prints; != if its layers do not give them
inferred: some layers are our interpretation; --json gives the sources
every timm model can be used too, as timm/NAME"""
HEADERS = {"params": "params", "madds": "MAdds", "lfr_flops": "LFR FLOPs", "size_mib": "MiB"}


def register(app: typer.Typer) -> None:
    """Add the command to ``distill``."""
    app.command(rich_help_panel=NETWORKS)(backbones)


def backbones(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="Only these networks.", show_default="every registered one"
        ),
    ] = None,
    latency: Annotated[
        bool,
        typer.Option(
            "--latency",
            help="Also measure the latency on one CPU thread, at "
            "batch size 1 with folded batch normalisation.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """List every network that a job spec can name, with its size and operations.

    MAdds are multiply-additions of convolutions and fully connected layers; LFR FLOPs are counted
    by the rules of the LFR 2019 challenge, which had a limit of 1 GFLOP. Figures printed in the
    papers are shown beside ours.

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
    times = ["ms"] if latency else []
    names = ["name", *HEADERS.values(), "dims", "input", *times]
    lines = [line for row in rows for line in (_ours(row, latency), _theirs(row)) if any(line)]
    padded = [line + [""] * (len(names) - len(line)) for line in lines]
    print_table(names, padded, numbers=[*HEADERS.values(), "dims", "ms"])
    print_below(CAPTION)


def _ours(row: dict[str, Any], latency: bool) -> list[str]:
    """Our figures for a network."""
    counts = []
    for quantity in HEADERS:
        digits = {"params": 3, "size_mib": 2}.get(quantity, 1)
        value = row[quantity] if quantity == "size_mib" else row[quantity] / 1e6
        counts.append(f"{value:,.{digits}f}")
    size = "x".join(map(str, row["input_size"]))
    times = [f"{row['latency_ms']:.1f}"] if latency else []
    status = "" if row["status"] == "exact" else f" ({row['status']})"
    return [row["name"] + status, *counts, str(row["embedding"]), size, *times]


def _theirs(row: dict[str, Any]) -> list[str]:
    """The second line: the figures in the paper."""
    figures = (row["paper"] or {"figures": {}})["figures"]
    printed = []
    for quantity in HEADERS:
        figure = figures.get(quantity)
        mark = "" if figure is None or figure["reproducible"] else "!= "
        printed.append("" if figure is None else f"{mark}{figure['printed']}")
    return ["", *printed]

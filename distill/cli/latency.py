"""`distill latency`: measures the speed of each format of a bundle on this machine."""

from typing import Annotated, Any

import typer

from distill.cli.bundles import BundleArgument, is_of_job, write_changed
from distill.cli.common import NETWORKS, JsonOption, print_json
from distill.cli.reports import print_table
from distill.cli.screen import note

MOST_THREADS = 256


def register(app: typer.Typer) -> None:
    """Add the command to ``distill``."""
    app.command(rich_help_panel=NETWORKS)(latency)


def latency(
    bundle: BundleArgument,
    threads: Annotated[
        str, typer.Option(metavar="COUNT,...", help="Numbers of threads to measure.")
    ] = "1",
    json: JsonOption = False,
) -> None:
    """Measure the latency of every format of a bundle, and of PyTorch, on this machine.

    Each format embeds one image at a time, in its own process, one format after the other. The
    table is saved in the bundle's evaluation.json. Measure on an idle machine, and compare only
    figures of one table.

    Example: distill latency workspace/bundles/sample --threads 1,2
    """
    from distill.export.latency import latencies, put_latencies
    from distill.export.remeasured import check_describable

    if kept := not is_of_job(bundle):
        check_describable(bundle)
    rows = latencies(bundle, _counts(threads), note)
    if kept:
        write_changed(bundle, bundle, lambda copy: put_latencies(copy, rows))
    if json:
        print_json({"bundle": str(bundle), "latencies": rows, "kept": kept})
        return
    eager = {row["threads"]: row.get("p50") for row in rows if row["runtime"] == "torch"}
    header = ["runtime", "threads", "p50 ms", "p95 ms", "x eager", "load s", "bytes", "memory MiB"]
    print_table(header, [_row(row, eager) for row in rows], numbers=header[1:])
    for row in rows:
        if "why_not" in row:
            note(f"{row['runtime']} could not be measured: {row['why_not']}")
    if not kept:
        note(
            "not saved: the bundle belongs to a job and must not change; run `distill pull JOB` "
            "and measure the pulled bundle"
        )


def _counts(text: str) -> list[int]:
    from curation.errors import UserError

    parts = [each.strip() for each in text.split(",")]
    allowed = {str(count) for count in range(1, MOST_THREADS + 1)}
    if not allowed.issuperset(parts):
        raise UserError(f"--threads {text}: give counts from 1 to {MOST_THREADS}, such as 1,2")
    return sorted({int(each) for each in parts})


def _row(row: dict[str, Any], eager: dict[int, float | None]) -> tuple[str, ...]:
    size = f"{row['bytes']:,}"
    if "why_not" in row:
        return (row["runtime"], str(row["threads"]), "-", "-", "-", "-", size, "-")
    base = eager[row["threads"]]
    return (
        row["runtime"],
        str(row["threads"]),
        f"{row['p50']:.2f}",
        f"{row['p95']:.2f}",
        "-" if base is None else f"{base / row['p50']:.2f}",
        f"{row['load_seconds']:.2f}",
        size,
        f"{row['memory_bytes'] / (1 << 20):.0f}",
    )

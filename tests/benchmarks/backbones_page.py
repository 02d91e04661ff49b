"""Generates distill/catalogue.json, docs/backbones.svg and the table of docs/backbones.md from the
registry.

Run: just backbones-page.
"""

from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from distill.catalogue import write_catalogue

DOCS = Path(__file__).parents[2] / "docs"
PLOT, PAGE = DOCS / "backbones.svg", DOCS / "backbones.md"
BEGIN, END = "<!-- the table begins -->\n", "<!-- the table ends -->"
MARKERS = "osD^vP*X<>hp"
LIMIT_PARAMS = 20 * 2**20 / 4 / 1e6  # 20 MiB of float32, in millions
LIMIT_MADDS = 513  # VarGFaceNet, just within 1 GFLOP by the LFR counter, has 512.6
DIGITS = {"params": (1e6, 3), "madds": (1e6, 1), "lfr_flops": (1e6, 1), "size_mib": (1, 2)}
"""Units and digits of the numbers in the table."""
EVERYWHERE = {
    "mobilefacenet", "mobilefacenet_s", "seesaw_share", "shufflenet", "mobilenetv2",
    "ghostfacenetv1", "ghostfacenetv1_s2", "ghostfacenetv2", "edgeface_base", "edgeface_s",
    "edgeface_xs", "edgeface_xxs", "facelivtv2_xs", "facelivtv2_s", "facelivt_m", "iresnet18",
    "iresnet50", "iresnet100", "iresnet200",
}  # fmt: skip
NEAR_THE_LIMIT = {
    "y2", "bitmain_yoa", "bitmain_yob", "bitmain_yoc", "bitmain_yoe", "vargfacenet", "vargnet",
    "meituan", "dw_seesaw_v2", "insightface_mobilefacenet", "mnasnet_125", "oct_resnet_a",
    "oct_mobilefacenet_b", "oct_resnet_b",
}  # fmt: skip


def draw(rows: list[dict[str, Any]]) -> None:
    """Write the plot: all networks, and a close-up near the limits, with a colour per family."""
    matplotlib.rcParams.update({"svg.hashsalt": "backbones", "font.size": 9})
    figure, (everything, near) = plt.subplots(1, 2, figsize=(13, 6), layout="constrained")
    everything.set(xscale="log", yscale="log", title="all networks")
    near.set(xlim=(425, 560), ylim=(1.8, 5.6), title="near the limits")
    for axes, labelled in ((everything, EVERYWHERE), (near, NEAR_THE_LIMIT)):
        axes.set_xlabel("multiply-additions for one image, millions")
        axes.set_ylabel("parameters, millions")
        axes.grid(visible=True, which="major", alpha=0.25)
        _draw_limits(axes)
        _draw_networks(axes, rows, labelled)
    everything.legend(loc="upper left", fontsize=8, ncols=2)
    figure.savefig(PLOT, metadata={"Date": None})


def _draw_networks(axes: Axes, rows: list[dict[str, Any]], labelled: set[str]) -> None:
    colours = cycle(plt.colormaps["tab20"].colors)
    families = sorted({row["family"] for row in rows})
    for family, marker, colour in zip(families, cycle(MARKERS), colours, strict=False):
        members = [row for row in rows if row["family"] == family]
        axes.scatter(
            [row["madds"] / 1e6 for row in members],
            [row["params"] / 1e6 for row in members],
            label=family, marker=marker, color=colour, s=36, edgecolors="black", linewidths=0.4,
        )  # fmt: skip
    for row in rows:
        if row["name"] in labelled:
            place = (row["madds"] / 1e6, row["params"] / 1e6)
            axes.annotate(row["name"], place, (5, 3), textcoords="offset points", fontsize=7)


def _draw_limits(axes: Axes) -> None:
    """The LFR 2019 limits, for which three of the papers are designed."""
    axes.axhline(LIMIT_PARAMS, color="crimson", linestyle="--", linewidth=1)
    axes.axvline(LIMIT_MADDS, color="crimson", linestyle="--", linewidth=1)
    red = {"color": "crimson", "fontsize": 8}
    axes.annotate("LFR 2019: 20 MB", (0.99, LIMIT_PARAMS * 1.04),
                  xycoords=("axes fraction", "data"), ha="right", **red)  # fmt: skip
    axes.annotate("LFR 2019: 1 GFLOP ", (LIMIT_MADDS, 0.01),
                  xycoords=("data", "axes fraction"), ha="right", **red)  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown; published figures are in brackets, struck out if impossible."""
    lines = [
        "| network | params | MAdds | LFR FLOPs | MiB | dims | input | layers | published in |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (row["family"], row["madds"], row["name"])):
        paper = row["paper"] or {"source": "", "figures": {}}
        cells = [f"`{row['name']}`", *(_cell(row, paper, quantity) for quantity in DIGITS)]
        size = "x".join(map(str, row["input_size"]))
        cells += [str(row["embedding"]), size, row["status"], paper["source"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any], paper: dict[str, Any], quantity: str) -> str:
    unit, digits = DIGITS[quantity]
    text = f"{row[quantity] / unit:,.{digits}f}"
    figure = paper["figures"].get(quantity)
    if figure is None:
        return text
    printed = figure["printed"] if figure["reproducible"] else f"~~{figure['printed']}~~"
    return f"{text} ({printed})"


def fill(page: str, rows: list[dict[str, Any]]) -> str:
    """The page with the table between its markers."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + "\n" + table(rows) + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    described = write_catalogue()
    draw(described)
    PAGE.write_text(fill(PAGE.read_text(), described))

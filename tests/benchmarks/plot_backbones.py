"""Draws docs/backbones.svg: multiply-additions and parameters of every network, with the limits.

Run: just plot-backbones.
"""

from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from distill.backbones import NETWORKS
from distill.catalogue import describe

OUTPUT = Path(__file__).parents[2] / "docs" / "backbones.svg"
MARKERS = "osD^vP*X<>hp"
LIMIT_PARAMS = 20 * 2**20 / 4 / 1e6  # 20 MiB of float32, in millions
LIMIT_MADDS = 500  # 1 GFLOP by the LFR counter is about half of it in multiply-additions
LABELLED = {
    "mobilefacenet", "mobilefacenet_s", "y2", "bitmain_yoa", "bitmain_yoe", "vargfacenet",
    "meituan", "seesaw_share", "dw_seesaw_v2", "shufflenet", "mobilenetv1", "mobilenetv2",
    "insightface_mobilefacenet", "mnasnet_125", "oct_resnet_a", "oct_mobilefacenet_a",
    "ghostfacenetv1", "edgeface_base", "edgeface_s", "edgeface_xs", "edgeface_xxs",
    "iresnet18", "iresnet50", "iresnet100", "iresnet200",
}  # fmt: skip


def draw(rows: list[dict[str, Any]]) -> None:
    """Write the plot; one colour and marker for each family."""
    matplotlib.rcParams.update({"svg.hashsalt": "backbones", "font.size": 9})
    figure, axes = plt.subplots(figsize=(10, 7), layout="constrained")
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("multiply-additions for one image, millions")
    axes.set_ylabel("parameters, millions")
    _draw_limits(axes)
    families = sorted({row["family"] for row in rows})
    for family, marker, colour in zip(
        families, cycle(MARKERS), cycle(plt.colormaps["tab20"].colors), strict=False
    ):
        members = [row for row in rows if row["family"] == family]
        axes.scatter(
            [row["madds"] / 1e6 for row in members],
            [row["params"] / 1e6 for row in members],
            label=family, marker=marker, color=colour, s=36, edgecolors="black", linewidths=0.4,
        )  # fmt: skip
    for row in rows:
        if row["name"] in LABELLED:
            place = (row["madds"] / 1e6, row["params"] / 1e6)
            axes.annotate(row["name"], place, (5, 3), textcoords="offset points", fontsize=7)
    axes.legend(loc="upper left", fontsize=8, ncols=2)
    axes.grid(visible=True, which="major", alpha=0.25)
    figure.savefig(OUTPUT, metadata={"Date": None})


def _draw_limits(axes: Axes) -> None:
    """The LFR 2019 limits, which three of the papers build for."""
    axes.axhline(LIMIT_PARAMS, color="crimson", linestyle="--", linewidth=1)
    axes.axvline(LIMIT_MADDS, color="crimson", linestyle="--", linewidth=1)
    axes.text(90, LIMIT_PARAMS * 1.04, "LFR 2019: 20 MB", color="crimson", fontsize=8)
    axes.text(LIMIT_MADDS * 1.03, 0.55, "LFR 2019: 1 GFLOP", color="crimson", fontsize=8)


if __name__ == "__main__":
    draw([describe(name) for name in NETWORKS])

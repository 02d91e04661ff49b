"""The table, the bars and the plot of `just bench-learning`."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from learning_recipes import ROWS, Student, chains

Points = list[tuple[float, float]]
End = tuple[int, float, float]
DOCS = Path(__file__).parents[2] / "docs"
PAGE, PLOT = DOCS / "benchmarks.md", DOCS / "learning.svg"
BEGIN, END = "<!-- the learning table begins -->\n", "<!-- the learning table ends -->"
COLUMNS = [
    ("LFW", "lfw", "accuracy"),
    ("CFP-FF", "cfp_ff", "accuracy"),
    ("CFP-FP", "cfp_fp", "accuracy"),
    ("LFW TAR", "lfw", "tar"),
    ("CFP-FF TAR", "cfp_ff", "tar"),
    ("CFP-FP TAR", "cfp_fp", "tar"),
    ("all pairs 1e-2", "test", "tar@1e-2"),
    ("1e-3", "test", "tar@1e-3"),
    ("1e-4", "test", "tar@1e-4"),
]
"""Heading, set, score."""
GAP_BARS = {"lfw": 0.6, "cfp_ff": 0.6, "cfp_fp": 0.4}
ALONE, BOTH = "ArcFace alone", "ArcFace + angular (Eq. 5, α = 7)"
SECOND = "ArcFace + angular, generation 2"
CONTROL = "ArcFace alone, generation 3: as many epochs"


def show(results: list[dict[str, Any]]) -> None:
    """Print table and bars."""
    sys.stdout.write(table(results) + "\n" + "".join(f"- {line}\n" for line in bars(results)))


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: mean ± standard deviation over the seeds."""
    lines = [f"| student | recipe | {' | '.join(name for name, _, _ in COLUMNS)} |"]
    lines.append("|" + "---|" * (len(COLUMNS) + 2))
    for row in results:
        cells = [_cell(row, each, score) for _, each, score in COLUMNS]
        lines.append(f"| {row['student'] or ''} | {row['row']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def bars(results: list[dict[str, Any]]) -> list[str]:
    """What was asked for beforehand, and what came out."""
    teacher = results[0]
    lines = []
    for student in dict.fromkeys(row["student"] for row in results[1:]):
        rows = {row["row"]: row for row in results if row["student"] == student}
        if ALONE not in rows:
            continue
        alone, control = rows.pop(ALONE), rows.pop(CONTROL, None)
        if BOTH in rows:
            lines.append(f"{student}: {_tar_bar(alone, rows[BOTH])}")
        if SECOND in rows:
            lines.append(f"{student}: {_generation_bar(rows[BOTH], rows[SECOND])}")
        if rows:
            best = max(rows.values(), key=lambda row: np.mean([_mean(row, s) for s in GAP_BARS]))
            lines.append(f"{student}: {_gap_bar(alone, best, teacher)}")
            if control is not None:
                lines.append(f"{student}: {_gap_bar(control, best, teacher)}")
    return lines


def _tar_bar(alone: dict[str, Any], both: dict[str, Any]) -> str:
    gains = {
        name: 100 * (_mean(both, each, score) - _mean(alone, each, score))
        for name, each, score in COLUMNS
        if score in ("tar", "tar@1e-3")
    }
    reached = "reached" if min(gains.values()) >= 5 else "not reached"
    points = ", ".join(f"{name} {gain:+.1f}" for name, gain in gains.items())
    return f"TAR of ArcFace + angular over ArcFace alone, in points (bar 5): {points}: {reached}"


def _generation_bar(first: dict[str, Any], second: dict[str, Any]) -> str:
    gains = {each: _mean(second, each) - _mean(first, each) for each in GAP_BARS}
    noise = {each: max(_deviation(row, each) for row in (first, second)) for each in GAP_BARS}
    reached = all(gains[each] >= -noise[each] for each in GAP_BARS)
    points = ", ".join(f"{each} {100 * gain:+.1f}" for each, gain in gains.items())
    what = "accuracy of generation 2 over generation 1, in points (bar 0 within the noise)"
    return f"{what}: {points}: {'reached' if reached else 'not reached'}"


def _gap_bar(alone: dict[str, Any], best: dict[str, Any], teacher: dict[str, Any]) -> str:
    closed = {}
    for each in GAP_BARS:
        low, high = _mean(alone, each), _mean(teacher, each)
        closed[each] = (_mean(best, each) - low) / (high - low)
    reached = all(closed[each] >= bar for each, bar in GAP_BARS.items())
    shares = ", ".join(f"{each} {closed[each]:.0%} (bar {GAP_BARS[each]:.0%})" for each in closed)
    what = f"gap from {alone['row']} to the teacher, closed by the best recipe, {best['row']}"
    return f"{what}: {shares}: {'reached' if reached else 'not reached'}"


def _mean(row: dict[str, Any], each: str, score: str = "accuracy") -> float:
    return float(np.mean([seed[each][score] for seed in row["seeds"].values()]))


def _deviation(row: dict[str, Any], each: str, score: str = "accuracy") -> float:
    return float(np.std([seed[each][score] for seed in row["seeds"].values()]))


def _cell(row: dict[str, Any], each: str, score: str) -> str:
    values = [seed[each][score] for seed in row["seeds"].values()]
    spread = f" ± {_deviation(row, each, score):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def write_page(results: list[dict[str, Any]], curves: dict[str, Points], student: Student) -> None:
    """Put table and bars between their marks in docs/benchmarks.md, and write the plot."""
    before, rest = PAGE.read_text().split(BEGIN)
    listed = "".join(f"- {line}\n" for line in bars(results))
    text = f"{before}{BEGIN}\n{table(results)}\n{listed}\n{END}{rest.split(END)[1]}"
    PAGE.write_text(text)
    draw(results, curves, student)


def ends(results: list[dict[str, Any]], recipes: list[str], student: Student) -> list[End]:
    """(Epochs, mean, standard deviation over the seeds) at the end of each generation.

    Of the mean accuracy on the sets of pairs, for the ``student``'s rows of ``recipes``.
    """
    places = {row.title: row.generation for row in ROWS if row.recipe in recipes}
    found = []
    for row in results:
        if row["student"] == student.name and row["row"] in places:
            means = [
                np.mean([scores[each]["accuracy"] for each in GAP_BARS])
                for scores in row["seeds"].values()
            ]
            epochs = places[row["row"]] * student.epochs
            found.append((epochs, float(np.mean(means)), float(np.std(means))))
    return sorted(found)


def draw(results: list[dict[str, Any]], curves: dict[str, Points], student: Student) -> None:
    """Mean accuracy on the sets of pairs over the epochs, a colour a chain of recipes.

    Lines are the first seed in the course of training, bars the seeds after each generation.
    """
    import matplotlib
    import matplotlib.pyplot as plt

    matplotlib.rcParams.update({"svg.hashsalt": "learning", "font.size": 9})
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    titles = {row.recipe: row.title for row in reversed(ROWS)}
    for number, recipes in enumerate(chains(student.recipes)):
        colour, label = f"C{number}", titles[recipes[0]]
        if points := curves[recipes[0]]:
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1, label=label)
        if marks := ends(results, recipes, student):
            epochs, means, deviations = zip(*marks, strict=True)
            style = {"fmt": "o", "markersize": 4, "capsize": 3, "color": colour}
            axes.errorbar(epochs, means, deviations, label=None if points else label, **style)
    teacher = np.mean([_mean(results[0], each) for each in GAP_BARS])
    axes.axhline(float(teacher), color="black", linestyle="--", linewidth=1, label="teacher")
    axes.set(xlabel="epochs, over all stages and generations", ylabel="mean accuracy, 3 pair sets")
    axes.grid(visible=True, alpha=0.25)
    axes.legend(loc="lower right")
    figure.savefig(PLOT, metadata={"Date": None})

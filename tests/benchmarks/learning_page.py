"""The tables, bars and plots of `just bench-learning`."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from learning_degraded import DEGRADATIONS
from learning_recipes import RECIPES, STUDENTS, Student, passes
from learning_results import TEACHER, Key, Result
from learning_rows import SECTIONS, Row, Section
from learning_scores import PAIRS

DOCS = Path(__file__).parents[2] / "docs"
PAGE, PLOT = DOCS / "benchmarks.md", DOCS / "learning-views.svg"
BEGIN, END = "<!-- the learning table begins -->\n", "<!-- the learning table ends -->"
COLUMNS = [
    ("LFW", "lfw", "accuracy"),
    ("CFP-FF", "cfp_ff", "accuracy"),
    ("CFP-FP", "cfp_fp", "accuracy"),
    ("all pairs 1e-2", "test", "tar@1e-2"),
    ("1e-3", "test", "tar@1e-3"),
    ("1e-4", "test", "tar@1e-4"),
]
"""Heading, set, score."""
GAIN = "difference in mean accuracy from"
"""Heading of the comparison with the row's control"""
MISSING = "Not trained yet (recipe, epochs)"
Found = dict[Key, Result]


def tables(results: Iterable[Result]) -> str:
    """Markdown: one table per question, and one of degraded pairs if they were scored."""
    found = {result.key: result for result in results}
    return "\n".join(
        part
        for section in SECTIONS
        for part in (_table(section, found), _degraded_table(section, found))
        if part
    )


def _rows_of(section: Section) -> list[tuple[Student, Row]]:
    return [(s, row) for s in STUDENTS for row in section.rows if row.recipe in s.recipes]


def _table(section: Section, found: Found) -> str:
    """Mean ± standard deviation over the seeds, and the rows that are still missing."""
    headings = ["student", "recipe", "epochs", *(name for name, _, _ in COLUMNS), GAIN]
    teachers = [result for result in found.values() if result.student == TEACHER]
    rows = [["teacher", each.recipe, "", *_cells(each), ""] for each in teachers]
    missing = []
    for student, row in _rows_of(section):
        result = found.get((student.name, row.recipe, row.generation))
        epochs = str(passes(student, row.recipe, row.generation))
        if result is None:
            missing.append(f"`{student.name}/{row.recipe}` ({row.title}, {epochs})")
        else:
            gain = _gain(result, row.against)
            rows.append([student.name, row.title, epochs, *_cells(result), gain])
    if not any(row[-1] for row in rows):
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    parts = [
        f"**{section.question}**",
        "\n".join([*_heading(headings), *(_line(*row) for row in rows)]),
    ]
    if missing:
        parts.append(f"{MISSING}: {'; '.join(missing)}.")
    return "\n\n".join(parts) + "\n"


def _cells(result: Result) -> list[str]:
    return [_cell(result, each, score) for _, each, score in COLUMNS]


def _gain(result: Result, against: str) -> str:
    """The difference from the control with its interval, and whether it exceeds noise."""
    if against not in result.differences:
        return ""
    gain, low, high = result.differences[against]
    verdict = "more than noise" if low > 0 or high < 0 else "noise"
    return f"`{against}`: {gain:+.3f} ({low:+.3f} to {high:+.3f}), {verdict}"


def _degraded_table(section: Section, found: Found) -> str:
    """Mean accuracy on the three sets of pairs, and the points lost by degradation."""
    lines = []
    for student, row in _rows_of(section):
        result = found.get((student.name, row.recipe, row.generation))
        if result and (clean := pair_accuracy(result)) and losses(result):
            cells = [f"{clean - loss:.3f} ({-100 * loss:+.1f})" for loss in losses(result).values()]
            cells += [f"{result.mean('angular', name) or 0.0:.3f}" for name in ("train", "test")]
            epochs = str(passes(student, row.recipe, row.generation))
            lines.append(_line(student.name, row.title, epochs, f"{clean:.3f}", *cells))
    if not lines:
        return ""
    title = (
        "The same networks on degraded pairs (mean accuracy and the points lost), and their "
        "angular loss with respect to the teacher on plain images:\n"
    )
    headings = ["student", "recipe", "epochs", "unchanged", *DEGRADATIONS]
    headings += ["known people", "held-out people"]
    return "\n".join([title, *_heading(headings), *lines]) + "\n"


def pair_accuracy(result: Result, degradation: str = "") -> float | None:
    """The mean over the sets of pairs; None if they were not scored."""
    means = [result.mean(f"{each}, {degradation}" if degradation else each) for each in PAIRS]
    there = [mean for mean in means if mean is not None]
    return float(np.mean(there)) if len(there) == len(PAIRS) else None


def losses(result: Result) -> dict[str, float]:
    """The loss of accuracy per degradation; None if one was not scored."""
    clean = pair_accuracy(result)
    found = {name: pair_accuracy(result, name) for name in DEGRADATIONS}
    there = {name: clean - each for name, each in found.items() if clean and each is not None}
    return there if len(there) == len(DEGRADATIONS) else {}


def _heading(names: Sequence[str]) -> list[str]:
    return [_line(*names), "|" + "---|" * len(names)]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(result: Result, each: str, score: str) -> str:
    mean = result.mean(each, score)
    if mean is None:
        return ""
    spread = f" ± {result.deviation(each, score):.3f}" if result.seeds > 1 else ""
    return f"{mean:.3f}{spread}"


Bar = tuple[str, dict[tuple[str, str], float]]
"""The bars: the required value of each (set, score)."""
TAR = ("test", "tar@1e-3")
ACCURACIES = [(each, "accuracy") for each in PAIRS]
BARS: dict[tuple[str, str], Bar] = {
    ("full-size", "24 epochs or more"): (
        "mirror",
        dict(zip([*ACCURACIES, TAR], [0.975, 0.978, 0.885, 0.86], strict=True)),
    ),
    ("mobilefacenet", "48 epochs"): (
        "mirror-long",
        dict(zip([*ACCURACIES, TAR], [0.960, 0.945, 0.84, 0.72], strict=True)),
    ),
}
"""Per student and length: its control, and what its best recipe should reach."""


def bars(results: Iterable[Result]) -> list[str]:
    """The goals that were set beforehand, and the results."""
    found = {result.key: result for result in results}
    by_name = {student.name: student for student in STUDENTS}
    lines = []
    for (name, length), (control, wanted) in BARS.items():
        epochs = passes(by_name[name], control, 1)
        trained = [
            result
            for result in found.values()
            if result.student == name
            and passes(by_name[name], result.recipe, result.generation) >= epochs
        ]
        lines.append(f"{name}, {length}: {_bar(trained, wanted)}")
    return [*lines, *_degraded_bars(found)]


def _bar(trained: list[Result], wanted: dict[tuple[str, str], float]) -> str:
    asked = ", ".join(f"{each} {score} {least}" for (each, score), least in wanted.items())
    if not trained:
        return f"not trained yet (goal: {asked})"
    best = max(trained, key=lambda result: pair_accuracy(result) or 0.0)
    reached = {(each, score): (best.mean(each, score) or 0.0) for each, score in wanted}
    words = ", ".join(
        f"{each} {score} {value:.3f} (goal: {wanted[each, score]})"
        for (each, score), value in reached.items()
    )
    met = all(value >= wanted[key] for key, value in reached.items())
    return f"{best.recipe}, the best recipe: {words}: {'reached' if met else 'not reached'}"


def _degraded_bars(found: Found) -> list[str]:
    """For every recipe with views, its loss on degraded pairs beside its mirror-only control's."""
    lines = []
    for student, row in (each for section in SECTIONS for each in _rows_of(section)):
        if not adds_views(row):
            continue
        before = found.get((student.name, row.against, 1))
        result = found.get((student.name, row.recipe, 1))
        if before and result and losses(before) and losses(result):
            shares = [losses(result)[name] / losses(before)[name] for name in DEGRADATIONS]
            words = ", ".join(
                f"{name} {share:.0%}" for name, share in zip(DEGRADATIONS, shares, strict=True)
            )
            met = "reached" if max(shares) <= 0.5 else "not reached"
            lines.append(
                f"{student.name}, {row.recipe}: accuracy lost on degraded pairs, relative to "
                f"{row.against} (goal: at most 50%): {words}: {met}"
            )
    return lines


def adds_views(row: Row) -> bool:
    """Whether views are the only difference between a row's recipe and its control."""
    recipe = RECIPES[row.recipe]
    return bool(
        row.against and recipe.augment and replace(recipe, augment="") == RECIPES[row.against]
    )


def write_page(results: list[Result]) -> None:
    """Write tables and bars between their markers in docs/benchmarks.md, and draw the plot."""
    before, rest = PAGE.read_text().split(BEGIN)
    listed = "".join(f"- {line}\n" for line in bars(results))
    found = "\n".join(map(_wrapped, f"{tables(results)}\n{listed}".split("\n")))
    PAGE.write_text(f"{before}{BEGIN}\n{found}\n{END}{rest.split(END)[1]}")
    draw(results)


def _wrapped(line: str) -> str:
    """Wrap to the line length of the docs, keeping table rows on one line."""
    if line.startswith("|"):
        return line
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(
        line, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


COLOURS = 10
"""Number of colours that matplotlib draws lines with before it begins again"""


def draw(results: Sequence[Result]) -> None:
    """Mean accuracy on the sets of pairs over the epochs of one schedule, where it was scored.

    A second schedule begins where the first one ended.
    """
    titles = {row.recipe: row.title for section in SECTIONS for row in section.rows}
    lines = [result for result in results if result.curve and result.generation == 1]
    if not lines:
        return
    import matplotlib
    import matplotlib.pyplot as plt

    matplotlib.rcParams.update({"svg.hashsalt": "learning", "font.size": 9})
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    students = {student.name: student for student in STUDENTS}
    for number, result in enumerate(lines):
        label = f"{result.student}: {titles[result.recipe]} ({result.recipe})"
        epochs, accuracies = zip(*result.curve, strict=True)
        begins = RECIPES[result.recipe].begins
        before = passes(students[result.student], begins, 1) if begins else 0
        style = ".-" if number < COLOURS else ".--"
        axes.plot([before + each for each in epochs], accuracies, style, linewidth=1, label=label)
    axes.set(xlabel="epochs", ylabel="mean accuracy, 3 pair sets")
    axes.grid(visible=True, alpha=0.25)
    axes.legend(loc="lower right")
    figure.savefig(PLOT, metadata={"Date": None})
    plt.close(figure)

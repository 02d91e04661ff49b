"""Prints the results of `inspect` for people: values, a table of steps, a histogram."""

import sys
from typing import Any

from curation.printable import printable
from distill.cli.reports import print_report
from distill.cli.screen import INDENT, can_show, screen_width, wrap, write

WIDEST = 80
"""Columns; longer bars are no clearer."""
EIGHTHS = " ▏▎▍▌▋▊▉"


def print_inspection(description: dict[str, Any]) -> None:
    """Print the result of ``curation.inspection.inspect_path``."""
    apart = {"history", "histogram"}
    print_report({key: value for key, value in description.items() if key not in apart}, False)
    width = min(WIDEST, screen_width())
    if description.get("history"):
        _print_below(step_lines(description["history"], width))
    if description.get("histogram"):
        _print_below(histogram_lines(description["histogram"], width, can_show(EIGHTHS)))


def _print_below(lines: list[str]) -> None:
    write(sys.stdout, "\n".join(["", *lines]))


def step_lines(history: list[dict[str, Any]], width: int) -> list[str]:
    """Each step with its parameters; below it identities and images, before, after and kept."""
    if len(history) > 1:
        history = [*history, _together(history)]
    sides = ("identities_before", "images_before", "identities_after", "images_after")
    texts = ["before", *(f"{step[side]:,}" for step in history for side in sides)]
    size = max(map(len, texts)) + 2
    lines = [f"{'step':12}{'before':>{size}}{'after':>{size}}{'kept':>9}"]
    for number, step in enumerate(history, 1):
        title = f"{number} {step['name']}" if "parameters" in step else step["name"]
        lines += wrap(printable(f"{title} {_parameters(step)}"), width, INDENT)
        for what in ("identities", "images"):
            before, after = step[f"{what}_before"], step[f"{what}_after"]
            kept = f"{after / before:.1%}" if before else "-"
            counts = f"{before:>{size},}{after:>{size},}{kept:>9}"
            lines.append(f"  {what:10}{counts}")
    return lines


def _together(history: list[dict[str, Any]]) -> dict[str, Any]:
    first, last = history[0], history[-1]
    before = {key: value for key, value in first.items() if key.endswith("_before")}
    after = {key: value for key, value in last.items() if key.endswith("_after")}
    return {"name": "all steps", **before, **after}


def _parameters(step: dict[str, Any]) -> str:
    """Names and values; a digest is shortened to what distinguishes it."""
    words = [
        f"{name.replace('_', ' ')} {value[:12] if name.endswith('digest') else value}"
        for name, value in step.get("parameters", {}).items()
    ]
    if "other" in step:
        words.append(f"with {step['other']['path']}")
    return f"({', '.join(words)})" if words else ""


def histogram_lines(bins: list[dict[str, int]], width: int, blocks: bool = True) -> list[str]:
    """One line per bin: images per identity, identities, images (if wide), and a bar.

    The longest bar (of ``identities``) is ``width`` columns wide. Without ``blocks``, the bars are
    ASCII.
    """
    ranges = [_range(entry["from"], entry["to"]) for entry in bins]
    columns = [["images each", *ranges]]
    for what in ("identities", "images")[: 2 if width >= 60 else 1]:
        columns.append([what, *(f"{entry[what]:,}" for entry in bins)])
    widths = [max(map(len, column)) for column in columns]
    texts = [
        "  ".join(word.rjust(size) for word, size in zip(row, widths, strict=True))
        for row in zip(*columns, strict=True)
    ]
    room = max(1, width - len(texts[0]) - 2)
    most = max(entry["identities"] for entry in bins)
    bars = [_bar(entry["identities"] / most * room, blocks) for entry in bins]
    return [
        texts[0],
        *(f"{text}  {bar}".rstrip() for text, bar in zip(texts[1:], bars, strict=True)),
    ]


def _range(first: int, last: int) -> str:
    return f"{first:,}" if first == last else f"{first:,}-{last:,}"


def _bar(length: float, blocks: bool) -> str:
    """A bar of this many columns, in steps of an eighth; a positive length is never invisible."""
    if not blocks:
        return "#" * (max(1, round(length)) if length else 0)
    eighths = max(1, round(length * 8)) if length else 0
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()

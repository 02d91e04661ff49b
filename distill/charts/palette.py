"""The light and dark colours of charts, equal to those of the pages' style sheet."""

CURVE_COLOURS = (
    ("#1b5cb8", "#8ab8ff"),
    ("#c2410c", "#ff9d75"),
    ("#176b41", "#74d5a3"),
    ("#7c3aad", "#c9a6ff"),
    ("#0e7490", "#67d3e6"),
    ("#a21650", "#ff9dc0"),
    ("#6b6a17", "#d6d36a"),
    ("#5b4636", "#d3b8a2"),
)
"""One colour for each of `chart.CURVES`"""
CARD, INK, MUTED, LINE = (
    ("#ffffff", "#1c1f24"),
    ("#1c1e22", "#e9e9e7"),
    ("#595e67", "#a7adb6"),
    ("#dedbd5", "#343941"),
)


def variables() -> str:
    """The definitions in the style sheet, for a drawing without it."""
    named = {"card": CARD, "ink": INK, "muted": MUTED, "line": LINE} | {
        f"curve-{number}": colours for number, colours in enumerate(CURVE_COLOURS, 1)
    }
    return " ".join(f"--{name}: light-dark({a}, {b});" for name, (a, b) in named.items())

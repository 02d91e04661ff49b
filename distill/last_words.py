"""The last output of one of our commands that has ended."""

_ERROR = "error: "


def error_in(output: str) -> str | None:
    """The last error, including its indented continuation lines; ``None`` if there is none."""
    lines = output.splitlines()
    starts = [place for place, line in enumerate(lines) if line.startswith(_ERROR)]
    if not starts:
        return None
    first, *others = lines[starts[-1] :]
    listed = 0
    while listed < len(others) and others[listed].startswith("  "):
        listed += 1
    return "\n".join([first.removeprefix(_ERROR), *others[:listed]])


def last_line(output: str) -> str:
    """The last line, or a statement that there is none."""
    lines = output.strip().splitlines()
    return lines[-1] if lines else "it printed nothing"

"""What a command of ours that ended said last."""

_ERROR = "error: "


def error_in(output: str) -> str | None:
    """Its last error, with the indented lines that belong to it; ``None`` where it gave none."""
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
    """Its last line, or that there is none."""
    lines = output.strip().splitlines()
    return lines[-1] if lines else "it said nothing"

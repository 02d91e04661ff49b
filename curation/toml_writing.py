"""Writing a TOML document: the reverse of ``curation.toml_text``. Deterministic.

Comments are not preserved. Tables have headers, so that people can read and change them; tables in
arrays of mixed content are written inline.
"""

import datetime
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_text(document: Mapping[str, Any]) -> str:
    """The document as TOML, which `tomllib` reads as the same values in the same order of keys.

    The order changes only where TOML requires it: a table's own values precede its subtables.
    """
    return "\n".join(_table_lines(document, ())).lstrip("\n") + "\n"


def toml_value(value: Any) -> str:
    """One value, on one line."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{toml_key(name)} = {toml_value(each)}" for name, each in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, datetime.date | datetime.time):  # includes datetime
        return value.isoformat()
    return _string(value) if isinstance(value, str) else str(value)


def toml_key(name: str) -> str:
    """One part of a key, quoted if necessary."""
    return name if _BARE.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    # JSON does not escape this control character, which TOML does not allow.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _table_lines(table: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[str]:
    for name, value in table.items():
        if not _has_header(value):
            yield f"{toml_key(name)} = {toml_value(value)}"
    for name, value in table.items():
        if not _has_header(value):
            continue
        inside = (*above, toml_key(name))
        header, tables = ".".join(inside), value if isinstance(value, list) else [value]
        for each in tables:
            yield from ("", f"[[{header}]]" if isinstance(value, list) else f"[{header}]")
            yield from _table_lines(each, inside)


def _has_header(value: Any) -> bool:
    """Whether a value is a table, or an array of tables only."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(each, Mapping) for each in value)
    return isinstance(value, Mapping)

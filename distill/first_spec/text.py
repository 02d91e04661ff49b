"""A spec as text, with the reason for each value beside it."""

import textwrap
from collections.abc import Sequence

from curation.toml_writing import toml_value
from distill.first_spec.rules import Choice

LINE = 100
"""Maximum characters; a longer reason is placed above its value."""
TABLES = {
    "": "",
    "data": "[data]",
    "teacher": "[teacher]",
    "student": "[student]",
    "stage": "[[stage]]",
    "augment": "[augment]",
    "train": "[train]",
    "resources": "[resources]",
}
"""The tables of a first spec, in order"""


def spec_text(choices: Sequence[Choice]) -> str:
    """The choices as TOML, table by table, in the given order."""
    parts = []
    for table, header in TABLES.items():
        lines = [line for each in choices if each.table == table for line in _lines(each)]
        if lines:
            parts.append("\n".join([header, *lines] if header else lines))
    return "\n\n".join(parts) + "\n"


def _lines(choice: Choice) -> list[str]:
    setting = f"{choice.key} = {toml_value(choice.value)}"
    line = f"{setting}  # {choice.reason}"
    if len(line) <= LINE:
        return [line]
    above = textwrap.wrap(choice.reason, LINE, initial_indent="# ", subsequent_indent="# ")
    return [*above, setting]

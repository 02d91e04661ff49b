"""Every command with its help: docs/cli.md."""

import re
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from distill.cli.curate import app as curate
from distill.cli.main import app as distill
from tests.reference.text import NOTICE, code, paragraph, table

PROGRAMS = {"curate": curate, "distill": distill}

HEAD = """# Commands

Every command has `--help`, and errors name the next command. Exit status 0 means success, 1 an
error that is printed as one line, 2 a wrong option, 130 an interruption by Ctrl-C. `--workspace`
may be left out everywhere: it is `$DISTILL_WORKSPACE`, or `./workspace`.
"""


def commands(name: str, group: Any) -> Iterator[tuple[str, Any]]:
    """Every command with its full name; groups contain further commands."""
    for word, command in sorted(group.commands.items()):
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from commands(f"{name} {word}", command)
        else:
            yield f"{name} {word}", command


def help_text(command: Any) -> str:
    """The help as Markdown. Examples, which the two programs format differently, become code."""
    paragraphs, examples = [], []
    for block in re.split(r"\n\s*\n", command.help.replace("\\[", "[")):
        text = paragraph(block.replace("\b", "")).strip("*")
        example, begins = re.subn(r"^Examples?:? ?", "", text)
        if begins or examples:
            examples.append(example.strip("`"))
        else:
            paragraphs.append(text)
    shown = code("\n".join(filter(None, examples))) if examples else ""
    return "\n\n".join(paragraphs) + f"\n\n{shown}"


def one(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    usage = command.get_usage(context).removeprefix("Usage: ")
    records = [
        record
        for each in command.params
        if not each.hidden and (record := each.get_help_record(context))
    ]
    rows = [(f"`{names}`", said) for names, said in records]
    options = "\n" + table(("argument or option", "meaning"), rows) if rows else ""
    return f"## {name}\n\n{code(paragraph(usage))}\n{help_text(command)}{options}"


def page() -> str:
    listed = [each for name, app in PROGRAMS.items() for each in commands(name, get_command(app))]
    index = table(
        ("command", "what it does"),
        [
            (f"[`{name}`](#{name.replace(' ', '-')})", paragraph(command.help.split("\n\n")[0]))
            for name, command in listed
        ],
    )
    return "\n".join([NOTICE, HEAD, index, *(one(name, command) for name, command in listed)])

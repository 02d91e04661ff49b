"""Names of jobs, and the text of job specs, as they come from outside."""

import re
from collections.abc import Callable

from curation.errors import UserError
from curation.toml_text import read_toml
from distill.spec import NAME_PATTERN
from distill.spec_text import UNNAMED_SPEC

SpecCheck = Callable[[str], list[str]]
"""Given the text of a spec, what in it will do nothing; ``UserError`` where it cannot be run."""

_NAME = re.compile(NAME_PATTERN)


def check_name(name: object) -> str:
    """``name`` where it may name a job, and so a folder; ``UserError`` else."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise UserError(
        f"{str(name)[:80]!r} cannot name a job: write up to 64 of a-z 0-9 . _ - "
        "beginning with a letter or a digit"
    )


def name_in(text: str, what: str = UNNAMED_SPEC) -> str:
    """The job's name in the text of a spec."""
    document = read_toml(text, what)
    if "name" not in document:
        raise UserError(f'{what} has no name; begin it with a line such as name = "my-student"')
    return check_name(document["name"])

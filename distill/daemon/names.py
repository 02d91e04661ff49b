"""Names of jobs, and the text of job specs, as they come from outside."""

import re
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from curation.errors import UserError
from curation.toml_text import read_toml
from distill.provenance import Provenance
from distill.spec_source import NAME_PATTERN, UNNAMED_SPEC, check_name


class Checked(BaseModel):
    """What was found of a spec that can be run; `distill check --json` prints it."""

    model_config = ConfigDict(frozen=True)

    warnings: tuple[str, ...] = ()
    """What in it will do nothing"""
    provenance: Provenance | None = None


SpecCheck = Callable[[str], Checked]
"""Given the text of a spec; ``UserError`` where it cannot be run."""


def name_in(text: str, what: str = UNNAMED_SPEC) -> str:
    """The job's name in the text of a spec."""
    document = read_toml(text, what)
    if "name" not in document:
        raise UserError(f'{what} has no name; start it with a line such as name = "my-student"')
    return check_name(document["name"])


def teachers_in(text: str) -> list[str]:
    """The names in the text of a spec that its teachers may have as jobs, and what it begins with.

    A network whose preprocessing is said is a file; what is no spec names none.
    """
    if "from" not in text:
        return []  # as most: it need not be parsed again
    document = read_toml(text, UNNAMED_SPEC)
    teacher = document.get("teacher")
    members = teacher.get("ensemble") if isinstance(teacher, dict) else None
    sources = [teacher, *(members if isinstance(members, list) else []), document.get("student")]
    names = [
        each.get("from")
        for each in sources
        if isinstance(each, dict) and each.get("preprocessing") is None
    ]
    return [name for name in names if isinstance(name, str) and re.fullmatch(NAME_PATTERN, name)]

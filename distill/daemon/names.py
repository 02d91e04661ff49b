"""Names of jobs and texts of job specs from outside."""

import re
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from curation.errors import UserError
from curation.toml_text import read_toml
from distill.provenance import Provenance
from distill.spec_source import NAME_PATTERN, UNNAMED_SPEC, check_name


class Checked(BaseModel):
    """The findings about a spec that can run; `distill check --json` prints them."""

    model_config = ConfigDict(frozen=True)

    warnings: tuple[str, ...] = ()
    """Settings without effect"""
    provenance: Provenance | None = None


SpecCheck = Callable[[str], Checked]
"""Checks the text of a spec; ``UserError`` if it cannot run."""


def name_in(text: str) -> str:
    """The job's name in the text of a spec."""
    document = read_toml(text, UNNAMED_SPEC)
    if "name" not in document:
        raise UserError(
            f'{UNNAMED_SPEC} has no name; start it with a line such as name = "my-student"'
        )
    return check_name(document["name"])


def teachers_in(text: str) -> list[str]:
    """Names in a spec that may be jobs: its teachers, and the network that its student starts from.

    A network with a preprocessing is a file; an invalid spec has no names.
    """
    if "from" not in text:
        return []  # the common case, without parsing the spec again
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

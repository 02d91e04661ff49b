"""Names of jobs, and the text of job specs, as they come from outside."""

from collections.abc import Callable

from curation.errors import UserError
from curation.toml_text import read_toml
from distill.spec import check_name
from distill.spec_text import UNNAMED_SPEC

SpecCheck = Callable[[str], list[str]]
"""Given the text of a spec, what in it will do nothing; ``UserError`` where it cannot be run."""


def name_in(text: str, what: str = UNNAMED_SPEC) -> str:
    """The job's name in the text of a spec."""
    document = read_toml(text, what)
    if "name" not in document:
        raise UserError(f'{what} has no name; begin it with a line such as name = "my-student"')
    return check_name(document["name"])

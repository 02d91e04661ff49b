"""Names of jobs, and the text of job specs, as they come from outside."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

from curation.errors import UserError

LARGEST_SPEC = 1 << 20
"""Bytes. A job spec is a page of text."""

SPEC_WORDS = "the job spec"
"""How messages call a spec that came without a file name."""

SpecCheck = Callable[[str], None]
"""Given the text of a spec, ``UserError`` where it cannot be run."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def check_name(name: object) -> str:
    """``name`` where it may name a job, and so a folder; ``UserError`` else."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise UserError(
        f"{str(name)[:80]!r} cannot name a job: write up to 64 of a-z 0-9 . _ - "
        "beginning with a letter or a digit"
    )


def read_spec_file(path: Path) -> str:
    """The text of a job spec; ``UserError`` where the file cannot be one."""
    if not path.is_file():
        kind = "is not a file" if path.exists() else "does not exist"
        raise UserError(f"the job spec {path} {kind}; give a TOML file such as jobs/sample.toml")
    with path.open("rb") as file:
        return decode_spec(file.read(LARGEST_SPEC + 1), str(path))


def decode_spec(data: bytes, what: str = SPEC_WORDS) -> str:
    """Bytes from outside as the text of a spec; ``UserError`` where they are no such text."""
    if len(data) > LARGEST_SPEC:
        raise UserError(f"{what} is larger than {LARGEST_SPEC >> 20} MiB: not a job spec")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{what} is not UTF-8 text ({error.reason} at byte {error.start})"
        ) from None


def name_in(text: str, what: str = SPEC_WORDS) -> str:
    """The job's name in the text of a spec."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{what} is not TOML: {error}") from None
    if "name" not in document:
        raise UserError(f'{what} has no name; begin it with a line such as name = "my-student"')
    return check_name(document["name"])

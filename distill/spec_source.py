"""Names of jobs and texts of specs from outside, before a spec is parsed.

Code that only looks at jobs needs no more; ``distill.spec`` imports losses, numpy and image sets.
"""

import re
from pathlib import Path

from curation.errors import UserError
from curation.toml_text import LARGEST

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
UNNAMED_SPEC = "spec.toml"
"""Name in messages of a spec that came without a file name"""
LARGEST_SPEC = LARGEST
"""Maximum bytes"""


def check_name(name: object) -> str:
    """Return ``name`` if it is a valid job and folder name, else raise ``UserError``."""
    if isinstance(name, str) and re.fullmatch(NAME_PATTERN, name):
        return name
    raise UserError(
        f"{str(name)[:80]!r} is not a job name; allowed: up to 64 of a-z 0-9 . _ -, starting with "
        f"a letter or a digit"
    )


def read_spec(path: Path) -> str:
    """The text of a job spec; ``UserError`` if the file cannot be one."""
    if not path.is_file():
        kind = "is not a file" if path.exists() else "does not exist"
        raise UserError(f"the job spec {path} {kind}; give a TOML file such as jobs/sample.toml")
    with path.open("rb") as file:
        return decode_spec(file.read(LARGEST_SPEC + 1), str(path))


def decode_spec(data: bytes, what: str = UNNAMED_SPEC) -> str:
    """Decode bytes from outside as the text of a spec; ``UserError`` if they are not valid."""
    if len(data) > LARGEST_SPEC:
        raise UserError(f"{what} is larger than {LARGEST_SPEC >> 10} KiB: not a job spec")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{what} is not UTF-8 text ({error.reason} at byte {error.start})"
        ) from None

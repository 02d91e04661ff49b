"""Submitting a spec from a file: errors name the file."""

from pathlib import Path

from curation.errors import UserError
from curation.workspace import Workspace
from distill.daemon import client
from distill.daemon.names import name_in
from distill.daemon.service import Answer
from distill.spec_text import UNNAMED_SPEC, read_spec


def submit_file(workspace: Workspace, path: Path, replace: bool) -> tuple[Answer, str, list[str]]:
    """Queue the spec in ``path``: see ``client.submit``."""
    text = read_spec(path)
    name_in(text, str(path))
    try:
        return client.submit(workspace, text, replace)
    except UserError as error:
        raise UserError(str(error).replace(UNNAMED_SPEC, str(path), 1)) from None

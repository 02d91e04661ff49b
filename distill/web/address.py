"""The address of a workspace's pages, kept in ``daemon/web.json`` while a daemon serves them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from urllib.parse import urlencode

from pydantic import Field

from curation.errors import UserError
from curation.workspace import Workspace
from distill.daemon import daemon_lock
from distill.daemon.processes import ProcessIdentity
from distill.daemon.runfolder import write_whole
from distill.run_directory import Record, found
from distill.web.keys import TOKEN_FILE, Keys, read_token

_RECORD = "web.json"
_NEW_TOKEN = (
    "for a new token, remove this file, then `distill stop` and `distill serve --web --background`;"
    " running jobs continue"
)


class WebAddress(Record):
    """The address of the pages and the process that serves them."""

    url: Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9._:\[\]-]{1,300}$")]
    process: ProcessIdentity
    start: Annotated[str, Field(pattern=r"^[\w-]{1,64}$")]
    proof: str
    """`Keys.proof` of the process"""


@contextmanager
def announced(workspace: Workspace, address: WebAddress) -> Iterator[None]:
    """Publish the address of the pages to other commands for the duration of the block."""
    path = workspace.daemon / _RECORD
    write_whole(path, address.model_dump_json())
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find_pages(workspace: Workspace) -> WebAddress:
    """The address of the pages; ``UserError`` if no daemon serves them."""
    if (daemon := daemon_lock.find(workspace)) is None:
        raise UserError(
            f"no daemon serves {workspace.root}: start one with `distill serve --web --background`"
        )
    address = found(workspace.daemon / _RECORD, WebAddress)
    if address is None or address.process != daemon.process:
        raise UserError(
            f"the daemon (pid {daemon.process.pid}) serves no pages: `distill stop`, then "
            "`distill serve --web --background`; running jobs continue"
        )
    return address


def signed_in(workspace: Workspace, page: str = "/") -> str:
    """A one-time link to a page that signs a browser in; ``UserError`` if no pages are served."""
    address, path = find_pages(workspace), workspace.daemon / TOKEN_FILE
    try:
        keys = Keys(read_token(path), address.start)
    except UserError as error:
        raise UserError(f"{error}; {_NEW_TOKEN}") from None
    if keys.proof() != address.proof:
        raise UserError(f"{path} has changed since the daemon began; {_NEW_TOKEN}")
    return f"{address.url}/sign-in?{urlencode({'link': keys.link(), 'to': page})}"

"""A real daemon whose jobs are the Python code in their specs: ``name = ...``, ``code = ...``.

Run as ``python daemon_under_test.py WORKSPACE SLOTS GRACE [EXECUTOR [web]]``, with web pages on a
free port.
"""

import sys
import time
import tomllib
from pathlib import Path

from curation.workspace import Workspace
from distill.daemon import connections, names, outcome, server
from distill.web.serving import pages
from distill.web.settings import web_settings


def code_of(run: Path) -> list[str]:
    """The job's command: its code, with the run folder as its argument."""
    spec = tomllib.loads((run / "spec.toml").read_text())
    return [sys.executable, "-c", spec["code"], str(run)]


def accept(text: str) -> names.Checked:
    """Any TOML with a name is a valid spec here; some checks take time."""
    if "# slow" in text:
        time.sleep(0.05)
    return names.Checked()


if __name__ == "__main__":
    outcome.BACK_OFF_SECONDS = (0.2, 0.2)
    connections.REQUEST_SECONDS = connections.UNREAD_SECONDS = 2.0
    server.log_to_stderr()
    server.serve(
        Workspace(Path(sys.argv[1])),
        slots=int(sys.argv[2]),
        executor=(*sys.argv, "local")[4],
        command=code_of,
        check=accept,
        grace=float(sys.argv[3]),
        pages=pages(web_settings("127.0.0.1:0")) if "web" in sys.argv else server.no_pages,
    )

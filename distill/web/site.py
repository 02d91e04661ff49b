"""The state shared by all pages: the jobs, the templates, and whether the server is stopping."""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment
from starlette.responses import HTMLResponse

from curation.pages.rendering import STYLE, environment
from curation.progress import spoken
from curation.workspace import Workspace
from distill.daemon.job import Job
from distill.daemon.service import JobService
from distill.daemon.waiting import Surroundings, surroundings
from distill.resources import in_gigabytes
from distill.spec_difference import shown_value
from distill.web import words
from distill.web.curves import CurveStore

_FOLDER = Path(__file__).parent
STATIC = _FOLDER / "static"
MOST_STREAMS = 32
"""Maximum pages with open event streams; pages in the background hold none"""


class PageMaker:
    """Renders the templates in ``templates/``."""

    def page(self, template: str, status_code: int = 200, **values: Any) -> HTMLResponse:
        """A whole page or a fragment."""
        text = _environment().get_template(template).render(site=self, **values)
        return HTMLResponse(text.encode(errors="backslashreplace"), status_code)


@dataclass(frozen=True, kw_only=True)
class Site(PageMaker):
    """The pages of one workspace."""

    service: JobService
    slots: int
    ending: threading.Event = field(default_factory=threading.Event)
    """Set when the server stops; long responses then end"""
    streams: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(MOST_STREAMS)
    )

    @cached_property
    def curves(self) -> CurveStore:
        return CurveStore(self.workspace.runs)

    @property
    def workspace(self) -> Workspace:
        return self.service.workspace

    def around(self, jobs: Sequence[Job]) -> Surroundings:
        """What to show about jobs beyond their own records."""
        service, runs = self.service, self.workspace.runs
        return surroundings(service.queue, self.slots, runs, jobs, service.capacity())


@cache
def _environment() -> Environment:
    """Templates that escape every value."""
    found = environment(_FOLDER / "templates")
    found.globals["static"] = static_address
    found.filters |= {
        "spoken": spoken,
        "ago": words.ago,
        "clock": words.clock,
        "code": words.code,
        "gigabytes": in_gigabytes,
    }
    found.globals |= {"doing": words.doing, "left": words.left, "shown_value": shown_value}
    return found


@cache
def static_files() -> Mapping[str, bytes]:
    """Static files by their addresses below ``/static/VERSION/``."""
    ours = [path for path in sorted(STATIC.rglob("*")) if path.suffix in (".js", ".css", ".svg")]
    files = {path.relative_to(STATIC).as_posix(): path.read_bytes() for path in ours}
    return {STYLE.name: STYLE.read_bytes(), **files}


@cache
def static_version() -> str:
    """Changes with any of the files, so that browsers may cache ``/static/VERSION/`` forever.

    It is a folder in the address, so that a script imports its neighbours in the same version.
    """
    whole = hashlib.sha256()
    for name, content in static_files().items():
        whole.update(f"{name} {len(content)}\n".encode() + content)
    return whole.hexdigest()[:12]


def static_address(name: str) -> str:
    """The address of a static file."""
    assert name in static_files(), name
    return f"/static/{static_version()}/{name}"

"""What every page works with: the jobs, the templates, and whether the server ends."""

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
"""Pages that are looked at, at the same time; those in the background ask for nothing."""


class PageMaker:
    """Makes pages of the files in ``templates/``."""

    def page(self, template: str, status_code: int = 200, **values: Any) -> HTMLResponse:
        """A page, or a part of one."""
        text = _environment().get_template(template).render(site=self, **values)
        return HTMLResponse(text, status_code)


@dataclass(frozen=True, kw_only=True)
class Site(PageMaker):
    """The pages of one workspace."""

    service: JobService
    slots: int
    ending: threading.Event = field(default_factory=threading.Event)
    """The server stops: what answers for long comes to its end"""
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
        """What is to be told of jobs beside what they say themselves."""
        service, runs = self.service, self.workspace.runs
        return surroundings(service.queue, self.slots, runs, jobs, service.capacity())


@cache
def _environment() -> Environment:
    """Templates that escape whatever is put into them."""
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
    """The files that pages load, by their addresses below ``/static/VERSION/``."""
    ours = [path for path in sorted(STATIC.rglob("*")) if path.suffix in (".js", ".css", ".svg")]
    files = {path.relative_to(STATIC).as_posix(): path.read_bytes() for path in ours}
    return {STYLE.name: STYLE.read_bytes(), **files}


@cache
def static_version() -> str:
    """Changes with any of the files: browsers may keep what is below ``/static/VERSION/``.

    It is a folder in the address, so that a script finds the scripts beside it in the same version.
    """
    whole = hashlib.sha256()
    for name, content in static_files().items():
        whole.update(f"{name} {len(content)}\n".encode() + content)
    return whole.hexdigest()[:12]


def static_address(name: str) -> str:
    """The address of a file."""
    assert name in static_files(), name
    return f"/static/{static_version()}/{name}"

"""Compares jobs: their curves in shared charts, their results, and how their specs differ."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from starlette.responses import Response

from distill.comparison import Row, compare
from distill.daemon.comparing import look_in
from distill.spec_difference import varying
from distill.spec_source import check_name
from distill.web.curves import grouped
from distill.web.site import Site

MOST = 8
"""Maximum jobs: there are this many curve colours"""
_OFFERED = 500


def router(site: Site) -> APIRouter:
    routes = APIRouter()
    place = site.workspace

    @routes.get("/compare")
    def compare_jobs(
        job: Annotated[list[str] | None, Query(max_length=100)] = None, step: str | None = None
    ) -> Response:
        """The jobs ``job`` side by side, with the curves of one step."""
        given = dict.fromkeys(each.strip() for each in job or [] if each.strip())
        names = [check_name(each) for each in given][:MOST]
        found = [look_in(site.service.queue, each, place) for each in names]
        rows = compare([each.subject for each in found]) if len(found) > 1 else []
        specs = varying([each.spec for each in found if each.spec is not None])
        specs.pop("name", None)
        steps = _steps_of(site, names)
        shown = step if step in steps else _fullest(site, names, steps)

        def address(chosen: Sequence[str], step: str | None = shown) -> str:
            kept = [("job", each) for each in chosen]
            return "/compare?" + urlencode([*kept, *([("step", step)] if step else [])])

        return site.page(
            "compare.html",
            names=names,
            found=found,
            rows=[(row, apart(row)) for row in rows],
            specs=specs,
            steps=steps,
            step=shown,
            charts=_charts(steps[shown]) if shown else {},
            address=address,
            offered=[each for each in site.service.queue.names()[-_OFFERED:] if each not in names],
            most=MOST,
        )

    return routes


def _steps_of(site: Site, names: Sequence[str]) -> dict[str, list[str]]:
    """The steps for which any job has curves, with all their keys."""
    steps: dict[str, set[str]] = {}
    for name in names:
        for step, keys in site.curves.of(name).steps().items():
            steps.setdefault(step, set()).update(keys)
    return {step: sorted(keys) for step, keys in steps.items()}


def _fullest(site: Site, names: Sequence[str], steps: Iterable[str]) -> str | None:
    """The step for which most jobs have curves; of equals, the last."""
    of_each = [site.curves.of(name).steps() for name in names]
    count = {step: sum(step in each for each in of_each) for step in steps}
    return max(reversed(count), key=count.__getitem__, default=None)


def _charts(keys: list[str]) -> dict[str, list[str]]:
    """One chart per key, with one line per job."""
    return {key: [key] for group in grouped(keys).values() for key in group}


def apart(row: Row) -> list[bool]:
    """Whether each subject's interval is disjoint from the first one's."""
    first: Any = row.intervals[0] if row.intervals else None
    others = row.intervals if first is not None and row.comparable else [None] * len(row.values)
    return [each is not None and (each[0] > first[1] or each[1] < first[0]) for each in others]

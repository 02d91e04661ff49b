"""The points of curves, for the charts of one job and of several."""

import math
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse, Response

from distill.spec_source import check_name
from distill.web.site import Site

MOST_CURVES = 60


def router(site: Site) -> APIRouter:
    routes = APIRouter()

    @routes.get("/curves")
    def curves(
        job: Annotated[list[str], Query(max_length=20)],
        key: Annotated[list[str], Query(max_length=50)],
        step: str,
        first: float = -math.inf,
        last: float = math.inf,
    ) -> Response:
        """The curves of ``key`` in a step of each ``job``, between two iterations."""
        given = [(name, each) for name in job for each in key][:MOST_CURVES]
        found = []
        for name, each in given:
            x, y = site.curves.of(check_name(name)).curve(step, each, first, last)
            found.append({"job": name, "key": each, "x": x, "y": y})
        return JSONResponse(found)

    return routes

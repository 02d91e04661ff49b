"""A store or view: its history, identities and quality measures."""

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException
from starlette.responses import Response

from curation.quality import MEASURES
from curation.report.funnel import funnel
from curation.report.histogram import size_histograms
from distill.web import data
from distill.web.routes.set_pages import AT, Page, SetPages

PEOPLE, EACH = 24, 6
"""Identities per page, and faces shown per identity"""


def router(pages: SetPages) -> APIRouter:
    routes = APIRouter()

    @routes.get(AT)
    def show_set(
        folder: str,
        name: str,
        page: Page = 1,
        order: Literal["most", "fewest", "own"] = "own",
        words: Annotated[str, Query(max_length=200)] = "",
    ) -> Response:
        """A store or view: its history, a page of its identities, and a search."""
        images = pages.sets.open(f"{folder}/{name}")
        count = max(1, -(-images.identities // PEOPLE))
        people = data.by_size(images, order, (page - 1) * PEOPLE, PEOPLE)

        def address(**other: Any) -> str:
            query = {"order": order, "page": page, **other}
            return "?" + urlencode({key: value for key, value in query.items() if value})

        return pages.page(
            "set.html",
            f"{folder}/{name}",
            images,
            people=people,
            shown=EACH,
            page=page,
            pages=count,
            order=order,
            address=address,
            words=words,
            found=data.search(images, words) if words.strip() else None,
            steps=funnel([images]),
            size=size_histograms([images])[0],
            measures=list(MEASURES),
            has_findings=images.path.with_suffix(".findings").is_dir(),
        )

    @routes.get(AT + "/measure/{measure}")
    def measure(folder: str, name: str, measure: str) -> Response:
        """The distribution of a quality measure, and the faces at both ends."""
        if measure not in MEASURES:
            raise HTTPException(404, f"there is no such measure; there are {', '.join(MEASURES)}")
        images = pages.sets.open(f"{folder}/{name}")
        found = data.measured(images, measure)
        return pages.page("measure.html", f"{folder}/{name}", images, measure=measure, found=found)

    return routes

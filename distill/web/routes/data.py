"""Stores and views, their identities and their faces."""

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query
from starlette.exceptions import HTTPException
from starlette.responses import Response

from curation.image_set import ImageSet
from curation.quality import MEASURES
from curation.report.funnel import funnel
from curation.report.histogram import size_histograms
from distill.web import data
from distill.web.site import Site

PEOPLE, EACH = 24, 6
"""Identities per page, and faces shown per identity"""
FACES = 120
"""Faces of one identity per page"""
_Number = Annotated[int, Path(ge=0, lt=1 << 40)]
_Page = Annotated[int, Query(ge=1, lt=1 << 30)]


def router(site: Site) -> APIRouter:
    routes = APIRouter()
    sets = data.DataSets(site.workspace)
    at = "/data/{folder}/{name}"

    def page_of(template: str, name: str, images: ImageSet, **values: Any) -> Response:
        return site.page(
            template,
            set=name,
            images=images,
            at=data.address(name),
            digest=images.digest[:12],
            identity_of=data.identity_of,
            name_of=data.name_of,
            **values,
        )

    @routes.get("/data")
    def families() -> Response:
        """Every store with its views, their history and their sizes."""
        return site.page("data.html", families=list(sets.families()))

    @routes.get(at)
    def show_set(
        folder: str,
        name: str,
        page: _Page = 1,
        order: Literal["most", "fewest", "own"] = "own",
        words: Annotated[str, Query(max_length=200)] = "",
    ) -> Response:
        """A store or view: its history, a page of its identities, and a search."""
        images = sets.open(f"{folder}/{name}")
        pages = max(1, -(-images.identities // PEOPLE))
        people = data.by_size(images, order, (page - 1) * PEOPLE, PEOPLE)

        def address(**other: Any) -> str:
            asked = {"order": order, "page": page, **other}
            return "?" + urlencode({key: value for key, value in asked.items() if value})

        return page_of(
            "set.html",
            f"{folder}/{name}",
            images,
            people=people,
            shown=EACH,
            page=page,
            pages=pages,
            order=order,
            address=address,
            words=words,
            found=data.search(images, words) if words.strip() else None,
            steps=funnel([images]),
            size=size_histograms([images])[0],
            measures=list(MEASURES),
            has_findings=images.path.with_suffix(".findings").is_dir(),
        )

    @routes.get(at + "/measure/{measure}")
    def measure(folder: str, name: str, measure: str) -> Response:
        """The distribution of a quality measure, and the faces at both ends."""
        if measure not in MEASURES:
            raise HTTPException(404, f"there is no such measure; there are {', '.join(MEASURES)}")
        images = sets.open(f"{folder}/{name}")
        found = data.measured(images, measure)
        return page_of("measure.html", f"{folder}/{name}", images, measure=measure, found=found)

    @routes.get(at + "/identity/{identity}")
    def show_identity(folder: str, name: str, identity: _Number, page: _Page = 1) -> Response:
        """The faces of an identity, one page at a time."""
        images = sets.open(f"{folder}/{name}")
        if identity >= images.identities:
            raise HTTPException(404, f"the identities are 0 to {images.identities - 1}")
        first, last = (int(each) for each in images.offsets[identity : identity + 2])
        begin = first + (page - 1) * FACES
        return page_of(
            "identity.html",
            f"{folder}/{name}",
            images,
            identity=identity,
            count=last - first,
            faces=range(begin, min(begin + FACES, last)),
            page=page,
            pages=max(1, -(-(last - first) // FACES)),
        )

    @routes.get(at + "/face/{face}")
    def show_face(folder: str, name: str, face: _Number) -> Response:
        """One face and the identities near it."""
        images = existing(folder, name, face)
        return page_of("face.html", f"{folder}/{name}", images, face=face)

    @routes.get(at + "/near/{face}")
    def near(folder: str, name: str, face: _Number) -> Response:
        """The identities nearest to a face, by cached embeddings."""
        images = existing(folder, name, face)
        teacher, found = data.nearest(site.workspace.cache, images, face)
        return page_of("near.html", f"{folder}/{name}", images, teacher=teacher, near=found)

    @routes.get(at + "/picture/{face}")
    def picture(
        folder: str, name: str, face: _Number, side: Literal["112", "224"] = "112"
    ) -> Response:
        """A face as an image; cacheable because its address contains the set's digest."""
        content = data.picture(existing(folder, name, face), face, int(side))
        if content is None:
            raise HTTPException(404, "this image cannot be decoded")
        keep = {"Cache-Control": "private, max-age=31536000, immutable"}
        return Response(content, media_type="image/jpeg", headers=keep)

    def existing(folder: str, name: str, face: int) -> ImageSet:
        images = sets.open(f"{folder}/{name}")
        if face >= len(images):
            raise HTTPException(404, f"the images are 0 to {len(images) - 1}")
        return images

    return routes

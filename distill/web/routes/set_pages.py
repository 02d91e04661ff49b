"""The sets of a workspace, and what all pages about one of them show."""

from typing import Annotated, Any

from fastapi import Path, Query
from starlette.exceptions import HTTPException
from starlette.responses import Response

from curation.image_set import ImageSet
from distill.web import data
from distill.web.site import Site

AT = "/data/{folder}/{name}"
Number = Annotated[int, Path(ge=0, lt=1 << 40)]
Page = Annotated[int, Query(ge=1, lt=1 << 30)]


class SetPages:
    """Opens sets and renders pages about them."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.sets = data.DataSets(site.workspace)

    def page(self, template: str, name: str, images: ImageSet, **values: Any) -> Response:
        """A page about the set ``name``."""
        return self.site.page(
            template,
            set=name,
            images=images,
            at=data.address(name),
            digest=images.digest[:12],
            identity_of=data.identity_of,
            name_of=data.name_of,
            **values,
        )

    def with_face(self, name: str, face: int) -> ImageSet:
        """The set ``name``; 404 if it has no image ``face``."""
        images = self.sets.open(name)
        if face >= len(images):
            raise HTTPException(404, f"the images are 0 to {len(images) - 1}")
        return images

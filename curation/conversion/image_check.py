"""Checks whether an image may go into a store: a JPEG or PNG file of the common size.

Checks the header and optionally decodes the image.
"""

from collections.abc import Sequence
from typing import Literal

from curation.conversion.decoding import DecodeCheck
from curation.errors import UserError
from curation.images import MAX_FILE_BYTES, MAX_PIXELS, encoding_of, header_length, probe_size
from curation.sources.image_source import ImageSource, SourceImages
from curation.sources.quarantine import BadRecordError, OnBad

_KNOWN_HEADERS = 1024


class ImageCheck:
    """Checks images one after the other.

    ``image_size`` (height, width) is the stated size or that of the first image; ``encodings`` are
    those seen so far. With ``decoding`` every image is also decoded. Images from one program share
    their first bytes up to the size, so each distinct beginning is parsed only once.
    """

    def __init__(
        self,
        stated: tuple[int, int] | None,
        image_size: tuple[int, int] | None = None,
        encodings: tuple[Literal["jpeg", "png"], ...] = (),
        decoding: bool = False,
    ) -> None:
        self._decoding = DecodeCheck() if decoding else None
        self.image_size, self.encodings = stated or image_size, encodings
        self._stated_by = "the property file" if stated else "the first image"
        self._known: set[bytes] = set()
        self._length = 0

    @property
    def encoding(self) -> Literal["jpeg", "png", "mixed"]:
        """The encoding of all images; valid after the first."""
        return self.encodings[0] if len(self.encodings) == 1 else "mixed"

    def objections(self, images: Sequence[bytes | memoryview]) -> dict[int, str]:
        """The objections to bad images, by their index."""
        found = self._header_objections(images)
        if self._decoding is None:
            return found
        left = [i for i in range(len(images)) if i not in found]
        return dict(sorted({**found, **self._decoding.objections(images, left)}.items()))

    def _header_objections(self, images: Sequence[bytes | memoryview]) -> dict[int, str]:
        known, length = self._known, self._length
        are_short = max(map(len, images), default=0) <= MAX_FILE_BYTES
        if length and are_short and known.issuperset([bytes(image[:length]) for image in images]):
            return {}
        found = {i: self._objection(bytes(image)) for i, image in enumerate(images)}
        return {i: reason for i, reason in found.items() if reason is not None}

    def _objection(self, data: bytes) -> str | None:
        is_short = len(data) <= MAX_FILE_BYTES
        if self._length and is_short and data[: self._length] in self._known:
            return None
        try:
            size = probe_size(data, "the image")
        except UserError as error:
            return str(error)
        if size[0] * size[1] > MAX_PIXELS:
            return f"the image is {size[0]}x{size[1]} pixels; an aligned face is far smaller"
        if self.image_size is not None and size != self.image_size:
            wanted = "{}x{}".format(*self.image_size)
            return (
                f"the image has {size[0]}x{size[1]} pixels, {self._stated_by} says {wanted}; "
                "all images must have the same size"
            )
        self.image_size = size
        self._remember(data)
        return None

    def _remember(self, data: bytes) -> None:
        encoding = encoding_of(data)
        if encoding is not None and encoding not in self.encodings:
            self.encodings = (*self.encodings, encoding)
        length = header_length(data)
        if length != self._length or len(self._known) == _KNOWN_HEADERS:
            self._known, self._length = set(), length
        self._known.add(data[:length])


def good_images(
    images: SourceImages, check: ImageCheck, source: ImageSource, on_bad: OnBad
) -> SourceImages:
    """The images that pass the check; the others go to ``on_bad``."""
    objections = check.objections(images.payloads)
    if not objections:
        return images
    for i, reason in objections.items():
        key, offset = int(images.keys[i]), int(images.offsets[i])
        on_bad(BadRecordError(source.describe(key, offset), key, offset, reason))
    return images.take([i for i in range(len(images.payloads)) if i not in objections])

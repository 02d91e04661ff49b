"""Errors in a job spec with the key they are about; the readers of its text add the line."""

from collections.abc import Iterator
from contextlib import contextmanager

from curation.errors import UserError
from curation.toml_positions import Location, in_words


class SpecError(UserError):
    """A fault at ``location``, relative to the table being checked; `within` adds outer keys."""

    def __init__(self, location: Location, reason: str) -> None:
        super().__init__(f"{in_words(location)}: {reason}" if location else reason)
        self.location = location
        self.reason = reason


@contextmanager
def within(*outer: int | str) -> Iterator[None]:
    """Prefix the location of errors in the block with ``outer``."""
    try:
        yield
    except SpecError as error:
        raise SpecError((*outer, *error.location), error.reason) from None
    except UserError as error:
        raise SpecError(outer, str(error)) from None

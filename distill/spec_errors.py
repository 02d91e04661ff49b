"""What is wrong with a job spec, and the key at which; the readers of its text add the line."""

from collections.abc import Iterator
from contextlib import contextmanager

from curation.errors import UserError
from curation.toml_positions import Location, in_words


class SpecError(UserError):
    """A fault at ``location``, seen from the table that is checked: `within` leads to it."""

    def __init__(self, location: Location, reason: str) -> None:
        super().__init__(f"{in_words(location)}: {reason}" if location else reason)
        self.location = location
        self.reason = reason


@contextmanager
def within(*outer: int | str) -> Iterator[None]:
    """Errors in the block are of what stands at ``outer`` in the spec."""
    try:
        yield
    except SpecError as error:
        raise SpecError((*outer, *error.location), error.reason) from None
    except UserError as error:
        raise SpecError(outer, str(error)) from None

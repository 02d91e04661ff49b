"""A compact list of many names."""

from array import array
from collections.abc import Iterable
from itertools import accumulate

CODING = "utf-8", "surrogateescape"
"""For file names, which need not be valid text"""


class PackedNames:
    """Names in order, with 8 bytes of overhead each."""

    def __init__(self) -> None:
        self._ends, self._text = array("q", [0]), bytearray()

    def extend(self, names: Iterable[str]) -> None:
        """Append names; faster for several at once."""
        encoded = [name.encode(*CODING) for name in names]
        self._ends.extend(accumulate(map(len, encoded), initial=self._ends.pop()))
        self._text += b"".join(encoded)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def at(self, places: Iterable[int]) -> list[str]:
        """The names at these places; faster than one by one."""
        ends, text = self._ends, self._text
        return [text[ends[place] : ends[place + 1]].decode(*CODING) for place in places]

    def __getitem__(self, place: int) -> str:
        return self._text[self._ends[place] : self._ends[place + 1]].decode(*CODING)

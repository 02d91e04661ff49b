"""A compact sequence of many names."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice, pairwise
from typing import Any

import numpy as np

CODING = "utf-8", "surrogateescape"
"""For file names, which need not be valid text"""
_TOGETHER = 1 << 12


class PackedNames(Sequence[str]):
    """Names in order, with 8 bytes of overhead each; equal to any sequence of the same names."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._ends, self._text = array("q", [0]), bytearray()
        self.extend(names)

    @classmethod
    def separated(cls, data: bytes) -> "PackedNames":
        """The names in ``data``, which are separated by zero bytes."""
        marks = np.flatnonzero(np.frombuffer(data, np.uint8) == 0)
        found = cls()
        found._text = bytearray(data.replace(b"\0", b""))
        found._ends.frombytes((marks - np.arange(len(marks))).astype(np.int64).tobytes())
        found._ends.append(len(found._text))
        return found

    def extend(self, names: Iterable[str]) -> None:
        """Append names; faster for several at once."""
        left = iter(names)
        while encoded := [name.encode(*CODING) for name in islice(left, _TOGETHER)]:
            self._ends.extend(accumulate(map(len, encoded), initial=self._ends.pop()))
            self._text += b"".join(encoded)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[str]:
        text = self._text
        return (text[begin:end].decode(*CODING) for begin, end in pairwise(self._ends))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(one == each for one, each in zip(self, other, strict=True))

    def at(self, places: Iterable[int]) -> list[str]:
        """The names at these places; faster than one by one."""
        ends, text = self._ends, self._text
        return [text[ends[place] : ends[place + 1]].decode(*CODING) for place in places]

    def take(self, places: np.ndarray) -> "PackedNames":
        """The names at these places, int64 ``[n]``, as a sequence of their own."""
        if len(places) == len(self) and (np.diff(places, prepend=-1) == 1).all():
            return self
        ends, text = self._ends, self._text
        taken = PackedNames()
        for first in range(0, len(places), _TOGETHER):
            these = places[first : first + _TOGETHER].tolist()
            parts = [text[ends[place] : ends[place + 1]] for place in these]
            taken._ends.extend(accumulate(map(len, parts), initial=taken._ends.pop()))
            taken._text += b"".join(parts)
        return taken

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return self.take(np.arange(*place.indices(len(self))))
        place = range(len(self))[place]
        return self._text[self._ends[place] : self._ends[place + 1]].decode(*CODING)

"""Reading torch.save pickles with placeholders: without torch, and without running their content.

Tensors become descriptions of where their elements are stored. Use it in a confined process only
(``teachers.confined``): nested references in a few bytes can expand beyond any memory, and a key
can take arbitrarily long to hash.

Source: torch/_utils.py (``_rebuild_*``).
"""

import pickle
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

MOST_NAMES, MOST_MAPPINGS = 1_000, 10_000
DEEPEST = 8
"""Maximum nesting of mappings that are searched for tensors"""
LONGEST_KEY = 300


@dataclass(frozen=True)
class Storage:
    """Stored elements: ``count`` of ``kind``, from ``start`` in the storage ``key``."""

    kind: str
    key: Any
    count: Any
    start: Any = 0


@dataclass(frozen=True)
class StridedTensor:
    """A strided tensor as described in the pickle; ``dtype`` None is that of its storage."""

    storage: Any
    offset: Any
    size: Any
    stride: Any
    dtype: str | None = None

    def __setstate__(self, state: Any) -> None: ...


class OddTensor:
    """A tensor that is not a plain array: sparse, quantised, nested or without values."""

    def __init__(self, *arguments: Any) -> None: ...
    def __setstate__(self, state: Any) -> None: ...


class _Placeholder:
    """Replaces every other class, function and object; one class per name."""

    name = ""

    def __new__(cls, *arguments: Any, **settings: Any) -> "_Placeholder":
        made = object.__new__(cls)
        made.inner = {}
        return made

    inner: dict[Any, Any]
    """The items it is given as a mapping"""

    def __init__(self, *arguments: Any, **settings: Any) -> None: ...
    def __setstate__(self, state: Any) -> None: ...
    def __setitem__(self, key: Any, value: Any) -> None:
        self.inner[key] = value

    def add(self, value: Any) -> None: ...
    def append(self, value: Any) -> None: ...
    def extend(self, values: Any) -> None: ...


class Reader(pickle.Unpickler):
    """Reads one pickle; ``names`` are its references, ``storages`` the stored elements by key."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")  # Python 2 strings with arbitrary bytes
        self.names: dict[str, Any] = {}
        self.storages: dict[Any, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in self.names:
            if len(self.names) == MOST_NAMES:
                raise ValueError(f"more than {MOST_NAMES} classes")
            self.names[full] = _stand_in(full)
        return self.names[full]

    def persistent_load(self, identifier: Any) -> Any:
        what, *fields = identifier
        if what != "storage":
            return _Placeholder()
        kind, key, _, count, *view = fields
        storage = Storage(name_of(kind), key, count)
        known = self.storages.setdefault(key, storage)
        if view and view[0] is not None:
            _, start, length = view[0]
            return Storage(known.kind, key, length, start)
        return storage


def _stand_in(full: str) -> Any:
    """The replacement for a name in the pickle."""
    if full in _STAND_INS:
        return _STAND_INS[full]
    if full.startswith("torch._utils._rebuild_"):
        return OddTensor
    return type("Placeholder", (_Placeholder,), {"name": full})


def _strided(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Any:
    _grad, _hooks, *metadata = rest if len(rest) >= 2 else (None, None)
    return OddTensor() if any(metadata) else StridedTensor(storage, offset, size, stride)


def _strided_of_type(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *more: Any
) -> Any:
    if any(more):
        return OddTensor()
    return StridedTensor(storage, offset, size, stride, name_of(dtype).removeprefix("torch."))


def _parameter(tensor: Any, *more: Any) -> Any:
    return tensor


def _subclass(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    known = function in _STAND_INS.values()
    return function(*arguments) if known else OddTensor()


_STAND_INS = {
    "collections.OrderedDict": OrderedDict,
    "torch.Size": tuple,
    "torch._utils._rebuild_tensor": _strided,
    "torch._utils._rebuild_tensor_v2": _strided,
    "torch._utils._rebuild_tensor_v3": _strided_of_type,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _subclass,
}


def name_of(kind: Any) -> str:
    return getattr(kind, "name", "") if isinstance(kind, type) else ""


def mappings(content: Any) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """All nested mappings, each once, even if several references lead to it."""
    left, seen = deque([("", content, 0)]), set[int]()
    while left and len(seen) < MOST_MAPPINGS:
        keys, found, depth = left.popleft()
        mapping = found.inner if isinstance(found, _Placeholder) else found
        if not isinstance(mapping, dict) or id(mapping) in seen or depth > DEEPEST:
            continue
        seen.add(id(mapping))
        yield keys, mapping
        left += [
            (f"{keys}.{key}" if keys else key, value, depth + 1)
            for key, value in mapping.items()
            if isinstance(value, dict | _Placeholder)
            and isinstance(key, str)
            and len(key) <= LONGEST_KEY
        ]

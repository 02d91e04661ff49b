"""Loading public checkpoints into our networks; every key of the file must be accounted for.

A key is either loaded, or belongs to the classifier that the network was trained with; otherwise
the file is refused with a message that names the keys and the registered networks that have them.
The location of the network in the file (wrappers and key prefix) is derived from its own keys.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from curation.errors import UserError
from teachers.networks import NETWORKS, create
from teachers.setting_words import setting
from teachers.weight_files import Part, StoredTensor, read_parts, shortened

LONGEST_PREFIX, MOST_PREFIXES = 8, 8
"""Maximum components of a wrapper's key prefix, and maximum number of prefixes to compare"""

MOST_COPIES = 6
"""A network is suggested for a part with at most this many times its number of keys."""

CLASSIFIERS = ("head", "fc", "fc7", "classifier", "kernel")
"""Names of the classifier in training programs, unless the network itself has such a key"""

COUNTERS = ("num_batches_tracked", "n_averaged")
"""Counters of normalisation (since PyTorch 0.4.1) and averaging; evaluation does not use them."""

Shapes = Mapping[str, torch.Size]


@dataclass(frozen=True)
class LoadReport:
    """What happened to every key: ``loaded`` of them are now in the network.

    ``ignored`` are the file's classifier keys, ``absent`` the network's batch counters that an old
    file lacks, ``prefix`` was removed from the loaded keys, and ``part`` is the path to the network
    in the file: the keys of enclosing mappings and the prefix.
    """

    loaded: int
    ignored: tuple[str, ...]
    absent: tuple[str, ...]
    prefix: str
    part: str


class OtherLengthError(UserError):
    """A file holds this network with embeddings of another ``length``."""

    def __init__(self, reason: str, length: int) -> None:
        super().__init__(reason)
        self.length = length


@dataclass(frozen=True)
class _Match:
    """The keys of a part of a file matched with a network's; ``loaded`` excludes the prefix."""

    part: Part
    prefix: str
    loaded: tuple[str, ...]
    ignored: tuple[str, ...]
    absent: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether the complete network is present."""
        return not (self.missing or self.misshapen)

    @property
    def fits(self) -> bool:
        return self.is_whole and not self.unexpected

    @property
    def found(self) -> int:
        """The number of the network's keys that are present."""
        return len(self.loaded) + len(self.misshapen)

    @property
    def name(self) -> str:
        """The path to the network in the file."""
        return f"{self.part.path}.{self.prefix}".strip(".")

    def tensors(self) -> dict[str, Tensor]:
        """The network's state, as far as it is present."""
        return {key: self.part.tensors[self.prefix + key].read() for key in self.loaded}


def load_checkpoint(network: nn.Module, path: Path, part: str | None = None) -> LoadReport:
    """Load a weights file into ``network``, which is unchanged if they do not match.

    ``part`` chooses among several networks in a file: the keys or the prefix that lead to one, such
    as "model_ema". Raises ``UserError`` for a file that is unreadable or unsafe, has keys or shapes
    of another network, holds the network twice with different weights, or has non-finite values;
    ``OtherLengthError`` if only the length of the embedding differs.
    """
    own = network.state_dict()
    match = _choose(path, network, _matches(_shapes(own), read_parts(path), part), part)
    given = match.tensors()
    for key, tensor in given.items():
        _check_values(path, key, tensor, own[key])
    network.load_state_dict(given, strict=False)
    return LoadReport(len(match.loaded), match.ignored, match.absent, match.prefix, match.name)


def recognise(path: Path, part: str | None = None) -> tuple[str, ...]:
    """The registered networks, at their default settings, whose keys and shapes match a file.

    Only imported families are registered. Raises ``UserError`` for an unreadable file, as
    `load_checkpoint` does.
    """
    return _fitting(read_parts(path), part)


def _choose(path: Path, network: nn.Module, matches: list[_Match], part: str | None) -> _Match:
    """The only match, or the first if all matches have the same weights."""
    if not matches:
        raise UserError(f"{path}: has no part {part!r}; leave it out to list the parts")
    fitting = [match for match in matches if match.fits]
    if not fitting:
        best = max(matches, key=lambda match: match.found)
        length = _other_length(network, best) if best.misshapen else None
        complaint = _complaint(path, network, best, part, length)
        raise UserError(complaint) if length is None else OtherLengthError(complaint, length)
    first = fitting[0].tensors()
    if any(not _equal(first, other.tensors()) for other in fitting[1:]):
        names = [match.name for match in fitting[:5]]
        raise UserError(
            f"{path}: holds this network {len(fitting)} times with different weights, as "
            f"{' and '.join(map(shortened, names))}; choose one: {setting('part', names[0])}"
        )
    return fitting[0]


def _equal(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        torch.equal(tensor, right[key]) for key, tensor in left.items()
    )


def _shapes(tensors: Mapping[str, Tensor] | Mapping[str, StoredTensor]) -> Shapes:
    return {key: tensor.shape for key, tensor in tensors.items()}


def _fitting(parts: list[Part], part: str | None) -> tuple[str, ...]:
    endings = [_endings(each) for each in parts]

    def fits(name: str) -> bool:
        own = _shapes_of(name)
        able = [
            each
            for each, known in zip(parts, endings, strict=True)
            if len(each.tensors) <= MOST_COPIES * len(own)
            and all(key in known or key.endswith(COUNTERS) for key in own)
        ]
        return bool(able) and any(match.fits for match in _matches(own, able, part))

    return tuple(name for name in sorted(NETWORKS) if fits(name))


def _endings(part: Part) -> set[str]:
    """The ends of a part's keys, after any prefix.

    They rule out most networks without comparing a thousand keys with each.
    """
    return {key[end:] for key in part.tensors for end in _ends(key)}


def _shapes_of(name: str) -> Shapes:
    with torch.device("meta"), _NoRandomNumbers():
        return _shapes(create(name).state_dict())


class _NoRandomNumbers(TorchFunctionMode):
    """Skips random initialisation, which takes most of the time of a network on the meta device."""

    def __torch_function__(  # type: ignore[no-untyped-def]
        self, function, types, arguments=(), settings=None
    ):
        if function in (Tensor.normal_, Tensor.uniform_):
            return arguments[0]
        return function(*arguments, **(settings or {}))


def _matches(own: Shapes, parts: list[Part], chosen: str | None) -> list[_Match]:
    """The network's keys matched with each part that may hold it, under each possible prefix."""
    needed = sum(not key.endswith(COUNTERS) for key in own)
    large = [part for part in parts if len(part.tensors) >= needed]
    largest = max(parts, key=lambda part: len(part.tensors))
    found = [match for part in large or [largest] for match in _matches_in(own, part)]
    if chosen is None:
        return found
    named = [match for match in found if f".{match.name}.".find(f".{chosen}.") >= 0]
    # A user who names a part states that the others do not belong to the network.
    return [
        replace(m, unexpected=tuple(key for key in m.unexpected if key.startswith(m.prefix)))
        for m in named
    ]


def _matches_in(own: Shapes, part: Part) -> list[_Match]:
    found = _shapes(part.tensors)
    matches = [_match_under(prefix, own, part, found) for prefix in _prefixes(own, found)]
    copies = {m.prefix + key for m in matches if m.is_whole for key in own}
    return [
        replace(m, unexpected=tuple(key for key in m.unexpected if key not in copies))
        for m in matches
    ]


def _prefixes(own: Shapes, found: Shapes) -> list[str]:
    """Candidate prefixes: those under which most keys of the network are found."""
    counts = Counter(key[:end] for key in found for end in _ends(key) if key[end:] in own)
    counters = sum(key.endswith(COUNTERS) for key in own)
    most = max(counts.values(), default=0)
    able = [prefix for prefix, count in counts.items() if count >= max(most - counters, 1)]
    return sorted(able, key=lambda prefix: (-counts[prefix], len(prefix)))[:MOST_PREFIXES] or [""]


def _ends(key: str) -> list[int]:
    """Where a prefix of a key could end: at its start, and after its first dots."""
    return [0, *(dot.end() for dot in islice(re.finditer(r"\.", key), LONGEST_PREFIX))]


def _match_under(prefix: str, own: Shapes, part: Part, found: Shapes) -> _Match:
    here = {key for key in own if prefix + key in found}
    lacking = own.keys() - here
    absent = {key for key in lacking if key.endswith(COUNTERS)}
    left = found.keys() - {prefix + key for key in here}
    ignored = {key for key in left if _is_beside(key, prefix)}
    misshapen = {key for key in here if own[key] != found[prefix + key]}
    return _Match(
        part,
        prefix,
        loaded=tuple(sorted(here - misshapen)),
        ignored=tuple(sorted(ignored)),
        absent=tuple(sorted(absent)),
        missing=_in_order(lacking - absent, own),
        unexpected=_in_order(left - ignored, found),
        misshapen=_in_order(misshapen, own),
    )


def _in_order(keys: Collection[str], reference: Shapes) -> tuple[str, ...]:
    return tuple(key for key in reference if key in keys)


def _is_beside(key: str, prefix: str) -> bool:
    """Whether a key that the network lacks belongs to a classifier or is a counter."""
    if key.startswith(prefix) and key[len(prefix) :].split(".")[0] in CLASSIFIERS:
        return True
    outside = not key.startswith(prefix)
    words = key.split(".", LONGEST_PREFIX)
    return outside and (words[-1] in COUNTERS or not set(words).isdisjoint(CLASSIFIERS))


def _check_values(path: Path, key: str, tensor: Tensor, own: Tensor) -> None:
    if key.endswith(COUNTERS):  # sometimes cast to float; embeddings do not use them
        return
    if tensor.is_floating_point() != own.is_floating_point():
        raise UserError(f"{path}: {key!r} holds {tensor.dtype}, the network's is {own.dtype}")
    if not tensor.to(own.dtype).isfinite().all():
        raise UserError(f"{path}: {key!r} has values that are not finite numbers")


def _complaint(
    path: Path, network: nn.Module, match: _Match, part: str | None, length: int | None
) -> str:
    complaints = []
    if match.missing:
        complaints.append(f"lacks {_first(match.missing)}")
    if match.unexpected:
        complaints.append(f"has {_first(match.unexpected)}")
    if match.misshapen:
        key = match.misshapen[0]
        own, found = network.state_dict()[key].shape, match.part.tensors[match.prefix + key].shape
        sizes = f"{_size(found)}, not {_size(own)}"
        complaints.append(f"has other shapes: {_first(match.misshapen)} ({sizes})")
    if match.is_whole and match.name:
        hint = f'set part = "{match.name}" to compare only {shortened(match.name)}'
    elif length is not None:
        hint = (
            f"the embeddings of this file have {length} values: set embedding = {length} in the "
            "job spec"
        )
    else:
        names = _fitting([match.part], part)
        hint = "no registered network fits"
        if names:
            hint = f"these are the keys of {' or '.join(names)}"
        elif not (match.missing or match.misshapen):
            hint = "save the state dict without them if they are not part of the network"
    return f"{path}: not weights of this {type(network).__name__}: {', '.join(complaints)}; {hint}"


def _other_length(network: nn.Module, match: _Match) -> int | None:
    """The length of the file's embeddings, if nothing but that length differs."""
    if match.missing or match.unexpected:
        return None
    own = network.state_dict()
    pairs = [
        (own[key].shape, match.part.tensors[match.prefix + key].shape) for key in match.misshapen
    ]
    if any(not (mine and theirs and mine[1:] == theirs[1:]) for mine, theirs in pairs):
        return None
    lengths = {(mine[0], theirs[0]) for mine, theirs in pairs}
    return lengths.pop()[1] if len(lengths) == 1 else None


def _first(keys: tuple[str, ...]) -> str:
    others = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"{shortened(keys[0])}{others}"


def _size(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "a single number"

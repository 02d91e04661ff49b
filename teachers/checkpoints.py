"""Public checkpoints into our networks: every key of the file is accounted for, or it is refused.

A key is loaded, or it belongs to the classifier that the network was trained with, or loading
stops with what does not fit and which registered networks' keys these are.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from curation.errors import UserError
from teachers.networks import NETWORKS, create
from teachers.weight_files import read_tensors, shortened

PREFIXES = re.compile(r"(?:(?:module|model|backbone|net|features\.module)\.){0,4}")
"""What wrappers put before every key: DataParallel, AdaFace, FaceX-Zoo, CVLface, MagFace."""

CLASSIFIERS = ("head", "fc", "fc7", "classifier", "kernel")
"""What training programs call the classifier, where the network has no such key itself."""

BATCH_COUNTER = "num_batches_tracked"
"""Part of a normalisation's state since PyTorch 0.4.1, of no use in evaluation."""

Shapes = Mapping[str, torch.Size]


@dataclass(frozen=True)
class LoadReport:
    """What became of every key: ``loaded`` of them are in the network now.

    ``ignored`` are the file's keys of a classifier, ``absent`` the network's batch counters that
    an old file lacks, ``prefix`` what was taken off the front of the loaded keys.
    """

    loaded: int
    ignored: tuple[str, ...]
    absent: tuple[str, ...]
    prefix: str


@dataclass(frozen=True)
class _Match:
    """The keys of a file beside those of a network; ``loaded`` is without the prefix."""

    prefix: str
    loaded: tuple[str, ...]
    ignored: tuple[str, ...]
    absent: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.misshapen)


def load_checkpoint(network: nn.Module, path: Path) -> LoadReport:
    """Put the weights of a file into ``network``, which stays as it is where they do not fit.

    Raises ``UserError`` for a file that is unreadable or unsafe, that has keys or shapes of
    another network, or values that are not finite numbers.
    """
    tensors = read_tensors(path)
    own = network.state_dict()
    match = _match(_shapes(own), _shapes(tensors))
    if not match.fits:
        raise UserError(_complaint(path, network, match, _shapes(own), _shapes(tensors)))
    given = {key: tensors[match.prefix + key] for key in match.loaded}
    for key, tensor in given.items():
        _check_values(path, key, tensor, own[key])
    network.load_state_dict(given, strict=False)
    return LoadReport(len(match.loaded), match.ignored, match.absent, match.prefix)


def recognise(path: Path) -> tuple[str, ...]:
    """The registered networks, at their default settings, whose keys and shapes a file has.

    The registry holds the families that are imported. Raises ``UserError`` as `load_checkpoint`
    does for a file that cannot be read.
    """
    return _fitting(_shapes(read_tensors(path)))


def _shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    return {key: tensor.shape for key, tensor in tensors.items()}


def _fitting(found: Shapes) -> tuple[str, ...]:
    return tuple(name for name in sorted(NETWORKS) if _match(_shapes_of(name), found).fits)


def _shapes_of(name: str) -> Shapes:
    with torch.device("meta"), _NoRandomNumbers():
        return _shapes(create(name).state_dict())


class _NoRandomNumbers(TorchFunctionMode):
    """Leaves out random initialisation, most of the time a network on the meta device takes."""

    def __torch_function__(  # type: ignore[no-untyped-def]
        self, function, types, arguments=(), settings=None
    ):
        if function in (Tensor.normal_, Tensor.uniform_):
            return arguments[0]
        return function(*arguments, **(settings or {}))


def _match(own: Shapes, found: Shapes) -> _Match:
    """Compare under the prefix that leaves most keys of the network found, none if it can be."""
    prefixes = sorted({prefix for key in found for prefix in _prefixes(key)}, key=len)
    return max(
        (_match_under(prefix, own, found) for prefix in prefixes),
        key=lambda match: len(match.loaded) + len(match.misshapen),
    )


def _prefixes(key: str) -> list[str]:
    """All that could be taken off a key: "", "module.", "module.model." and so on."""
    whole = PREFIXES.match(key)
    ends = [part.end() for part in re.finditer(r"\.", whole[0])] if whole else []
    return [key[:end] for end in (0, *ends)]


def _match_under(prefix: str, own: Shapes, found: Shapes) -> _Match:
    here = {key[len(prefix) :] for key in found if key.startswith(prefix)} & own.keys()
    lacking = own.keys() - here
    absent = {key for key in lacking if key.endswith(BATCH_COUNTER)}
    left = found.keys() - {prefix + key for key in here}
    ignored = {key for key in left if _is_classifier(key)}
    misshapen = {key for key in here if own[key] != found[prefix + key]}
    return _Match(
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


def _is_classifier(key: str) -> bool:
    return PREFIXES.sub("", key, count=1).split(".")[0] in CLASSIFIERS


def _check_values(path: Path, key: str, tensor: Tensor, own: Tensor) -> None:
    if tensor.is_floating_point() != own.is_floating_point():
        raise UserError(f"{path}: {key!r} holds {tensor.dtype}, the network's is {own.dtype}")
    if not tensor.to(own.dtype).isfinite().all():
        raise UserError(f"{path}: {key!r} has values that are not finite numbers")


def _complaint(path: Path, network: nn.Module, match: _Match, own: Shapes, found: Shapes) -> str:
    complaints = []
    if match.missing:
        complaints.append(f"lacks {_first(match.missing)}")
    if match.unexpected:
        complaints.append(f"has {_first(match.unexpected)}")
    if match.misshapen:
        key = match.misshapen[0]
        sizes = f"{_size(found[match.prefix + key])}, not {_size(own[key])}"
        complaints.append(f"has other shapes: {_first(match.misshapen)} ({sizes})")
    names = _fitting(found)
    hint = f"these are the keys of {' or '.join(names)}" if names else "no registered network fits"
    return f"{path}: not weights of this {type(network).__name__}: {', '.join(complaints)}; {hint}"


def _first(keys: tuple[str, ...]) -> str:
    others = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"{shortened(keys[0])}{others}"


def _size(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "a single number"

"""The registry of networks: every embedding network by name, teachers and students alike.

A family registers its networks next to their definition::

    @register("iresnet18", family="iresnet", embedding=512)
    def iresnet18(embedding, input_size, width): ...

``distill.backbones`` imports every family; look names up there. A network class lists the modules
after its global operator in ``after_global`` (see `head_parameters`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from curation.errors import UserError
from curation.registry import check_unused
from curation.suggestions import hint
from teachers.preprocessing import InputSizeError

Size = tuple[int, int]
Builder = Callable[[int, Size, float], nn.Module]
NamedBuilder = Callable[[str, int, Size, float], nn.Module]
Status = Literal["exact", "inferred", "not reproducible"]


@dataclass(frozen=True)
class Figure:
    """A number printed in a source, as printed and in our units.

    ``value`` counts parameters, multiply-additions or operations, or is in MiB. Our count agrees
    with it up to the relative difference ``within``; None means that no reading of the published
    layers gives this number.
    """

    printed: str
    value: float
    within: float | None = 0.02


@dataclass(frozen=True)
class Paper:
    """The publication of a network, its printed figures, and remarks about them.

    The keys of ``figures`` are "params", "madds", "lfr_flops" and "size_mib".
    """

    source: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class NetworkEntry:
    """One registered network: its defaults, its builder, and how well it is documented.

    ``embedding`` is the width of the embedding, ``input_size`` is (height, width) in pixels.
    ``status`` is "exact" if every layer is published (in a paper or its authors' code), "inferred"
    if some layers are our interpretation, "not reproducible" if the published layers are not those
    on which the published figures were measured.
    """

    name: str
    family: str
    embedding: int
    input_size: Size
    build: Builder
    paper: Paper | None = None
    status: Status = "exact"


NETWORKS: dict[str, NetworkEntry] = {}
NAMED_FAMILIES: dict[str, NamedBuilder] = {}
"""Network families named by another library: ``"timm/" -> builder(name, ...)``"""


def register(
    name: str,
    *,
    family: str,
    embedding: int,
    input_size: Size = (112, 112),
    paper: Paper | None = None,
    status: Status = "exact",
) -> Callable[[Builder], Builder]:
    """Register a builder ``(embedding, input_size, width) -> nn.Module`` under ``name``."""

    def enter(build: Builder) -> Builder:
        before = NETWORKS.get(name)
        check_unused("network", name, before and before.build, build)
        NETWORKS[name] = NetworkEntry(name, family, embedding, input_size, build, paper, status)
        return build

    return enter


def register_named_family(prefix: str) -> Callable[[NamedBuilder], NamedBuilder]:
    """Register a builder ``(name, embedding, input_size, width)`` for all names ``PREFIX/...``."""

    def enter(build: NamedBuilder) -> NamedBuilder:
        check_unused("family of networks", prefix, NAMED_FAMILIES.get(prefix), build)
        NAMED_FAMILIES[prefix] = build
        return build

    return enter


def lookup(name: str) -> NetworkEntry:
    """The entry of a registered network or of ``FAMILY/NAME``; ``UserError`` if there is none."""
    if name in NETWORKS:
        return NETWORKS[name]
    prefix, slash, inner = name.partition("/")
    if slash and prefix in NAMED_FAMILIES:
        build = NAMED_FAMILIES[prefix]
        return NetworkEntry(
            name, prefix, 512, (112, 112), lambda *settings: build(inner, *settings)
        )
    known = [*sorted(NETWORKS), *(f"{prefix}/NAME" for prefix in NAMED_FAMILIES)]
    advice = hint(name, known, "`distill backbones` shows them")
    raise UserError(f"backbone {name!r} is not known{advice}")


def create(
    name: str, embedding: int | None = None, input_size: Size | None = None, width: float = 1.0
) -> nn.Module:
    """Build a network that maps [B, 3, height, width] to raw embeddings [B, embedding].

    ``width`` scales the number of channels. Raises ``UserError`` for an unknown name or an
    unsupported size (all strides must divide it).
    """
    entry = lookup(name)
    return entry.build(embedding or entry.embedding, input_size or entry.input_size, width)


def head_parameters(network: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters after the global operator, which the papers train with more weight decay.

    Source: MobileFaceNets, section IV.A: 4e-5, but 4e-4 for the last layers after GDConv.
    """
    for module in head_modules(network):
        yield from module.parameters()


def head_modules(network: nn.Module) -> Iterator[nn.Module]:
    """The modules after the global operator. Everything up to and including it is the body."""
    names: Any = network.after_global
    for name in names:
        yield network.get_submodule(name)


def body_parameters(network: nn.Module) -> Iterator[nn.Parameter]:
    """All parameters except those of the head."""
    head = set(head_parameters(network))
    return (parameter for parameter in network.parameters() if parameter not in head)


def final_grid(name: str, input_size: Size, stride: int) -> Size:
    """The size of the last feature map of a network with this total stride."""
    height, width = input_size
    if height % stride or width % stride or min(input_size) < stride:
        raise InputSizeError(
            f"{name}: input size {height}x{width} is not a multiple of its stride {stride}"
        )
    return height // stride, width // stride


def scaled(channels: int, width: float) -> int:
    """``channels`` times ``width``, rounded to a multiple of 8 and at least 8.

    At width 1 the published number is kept, even if it is not a multiple of 8.
    """
    return channels if width == 1 else max(8, int(channels * width / 8 + 0.5) * 8)

"""The registry of networks: every embedding network by name, teachers and students alike.

A family registers its networks beside their definition::

    @register("iresnet18", family="iresnet", embedding=512)
    def iresnet18(embedding, input_size, width): ...

``distill.backbones`` imports every family; look names up there.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from curation.errors import UserError

Size = tuple[int, int]
Builder = Callable[[int, Size, float], nn.Module]
NamedBuilder = Callable[[str, int, Size, float], nn.Module]


@dataclass(frozen=True)
class NetworkEntry:
    """One registered network: its defaults and how to build it.

    ``embedding`` is the length of the embedding, ``input_size`` is (height, width) in pixels.
    """

    name: str
    family: str
    embedding: int
    input_size: Size
    build: Builder


NETWORKS: dict[str, NetworkEntry] = {}
NAMED_FAMILIES: dict[str, NamedBuilder] = {}
"""Families of networks that another library names: ``"timm/" -> builder(name, ...)``."""


def register(
    name: str, *, family: str, embedding: int, input_size: Size = (112, 112)
) -> Callable[[Builder], Builder]:
    """Enter a builder ``(embedding, input_size, width) -> nn.Module`` under ``name``."""

    def enter(build: Builder) -> Builder:
        assert name not in NETWORKS, f"{name} is registered twice"
        NETWORKS[name] = NetworkEntry(name, family, embedding, input_size, build)
        return build

    return enter


def register_named_family(prefix: str) -> Callable[[NamedBuilder], NamedBuilder]:
    """Enter a builder ``(name, embedding, input_size, width)`` for all names ``PREFIX/...``."""

    def enter(build: NamedBuilder) -> NamedBuilder:
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
    prefixes = [f"{prefix}/NAME" for prefix in NAMED_FAMILIES]
    raise UserError(
        f"backbone {name!r} is not known; there are {', '.join([*sorted(NETWORKS), *prefixes])}; "
        "`distill backbones` shows them"
    )


def create(
    name: str, embedding: int | None = None, input_size: Size | None = None, width: float = 1.0
) -> nn.Module:
    """Build a network that maps [B, 3, height, width] to raw embeddings [B, embedding].

    ``width`` scales the number of channels. Raises ``UserError`` for an unknown name or a size
    that the network cannot take (all strides must divide it).
    """
    entry = lookup(name)
    return entry.build(embedding or entry.embedding, input_size or entry.input_size, width)


def final_grid(name: str, input_size: Size, stride: int) -> Size:
    """The size of the last feature map of a network with this total stride."""
    height, width = input_size
    if height % stride or width % stride or min(input_size) < stride:
        raise UserError(
            f"{name}: input size {height}x{width} is not a multiple of its stride {stride}"
        )
    return height // stride, width // stride


def scaled(channels: int, width: float) -> int:
    """``channels`` times ``width``, rounded to a multiple of 8 and at least 8."""
    return max(8, int(channels * width / 8 + 0.5) * 8)

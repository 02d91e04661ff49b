"""A fully specified network, without torch until it is built."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from distill.catalogue import defaults_of, is_known
from distill.network_spec import NetworkSpec
from distill.timm_names import without_pretrained_weights
from teachers.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Architecture:
    """A fully specified network."""

    backbone: str
    embedding: int
    input_size: tuple[int, int]
    width: float
    given: Preprocessing | None = None
    """The preprocessing of a network that started from other weights, if it differs from ours."""

    @classmethod
    def resolve(cls, spec: NetworkSpec, embedding: int | None = None) -> "Architecture":
        """Fill in the registry's defaults; ``embedding`` is the default width, if given."""
        usual = defaults_of(spec.backbone)
        size = spec.input_size or usual.input_size
        length = spec.embedding or embedding or usual.embedding
        return cls(spec.backbone, length, (size[0], size[1]), spec.width)

    @property
    def preprocessing(self) -> Preprocessing:
        """RGB, ``(pixel - 127.5) / 127.5`` for networks trained here, unless they started from
        weights with another preprocessing."""
        return self.given or Preprocessing.ours(self.input_size)

    @property
    def unweighted(self) -> "Architecture":
        """The same network without pretrained weights, so that timm's need not be available."""
        return replace(self, backbone=without_pretrained_weights(self.backbone))

    @property
    def is_known(self) -> bool:
        """Whether it is known, without building it, that the network can be built."""
        return is_known(self.backbone, self.input_size, self.width)

    def build(self) -> "nn.Module":
        from distill.backbones import create

        return create(self.backbone, self.embedding, self.input_size, self.width)

    def check(self) -> None:
        """Raise ``UserError`` if the network cannot be built; uses no memory."""
        import torch

        with torch.device("meta"):
            self.build()

    def describe(self) -> dict[str, Any]:
        described = {
            "backbone": self.backbone,
            "embedding": self.embedding,
            "input_size": list(self.input_size),
            "width": self.width,
        }
        if self.given is None:
            return described
        return {**described, "preprocessing": self.given.canonical_json()}

"""Students: networks, losses, the training loop, generations, evaluation, export, the daemon."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from distill.export.embedder import BundleEmbedder

__version__ = "0.1.0"
"""Defined only here; pyproject.toml reads it."""


def load(bundle: "str | Path") -> "BundleEmbedder":
    """Open a bundle as an embedder: ``distill.load("bundle/").embed(images)``.

    Raises ``UserError`` if the folder is not a bundle or a checksum does not match.
    """
    from distill.export.embedder import BundleEmbedder

    return BundleEmbedder(bundle)

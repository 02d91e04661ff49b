"""Those who learn: students, losses, the training loop, generations, evaluation, export, daemon."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from distill.export.embedder import BundleEmbedder

__version__ = "0.1.0"
"""The only place that has it: pyproject.toml reads it from here."""


def load(bundle: "str | Path") -> "BundleEmbedder":
    """Open a bundle as an embedder: ``distill.load("bundle/").embed(images)``.

    Raises ``UserError`` where the folder is not a bundle or a checksum does not fit.
    """
    from distill.export.embedder import BundleEmbedder

    return BundleEmbedder(bundle)

"""Subsets by a number per image: sharpness, brightness, an embedding's norm, ..."""

import math
from pathlib import Path

import numpy as np

from curation.arrays import read_array, read_head
from curation.errors import UserError
from curation.files import UnreadableError
from curation.image_set import ImageSet, Parameter
from curation.view_writing import write_subset
from curation.views import View

QUALITY = "quality"


def within_limits(
    values: np.ndarray, at_least: float | None = None, at_most: float | None = None
) -> np.ndarray:
    """Where ``values`` ``[N]`` are within the limits, both inclusive: bool ``[N]``."""
    keep = np.ones(len(values), bool)
    if at_least is not None:
        keep &= values >= at_least
    if at_most is not None:
        keep &= values <= at_most
    return keep


def load_values(path: Path, images: ImageSet) -> np.ndarray:
    """Values of ``images`` from a ``.npy`` file: float64 ``[N]``.

    The file has one value per image of the root store, like embedding caches, or per image of
    ``images``; or two, upright and mirrored, which are averaged. If store and ``images`` have equal
    length, the values are those of the store. Raises ``UserError`` if the file is something else or
    an image has no finite value.
    """
    try:
        head = read_head(path)
        lengths = {len(images.store), len(images)}
        is_one_each = head.shape[:1] in {(length,) for length in lengths}
        if head.kind.kind not in "fiu" or not is_one_each or head.shape[1:] not in ((), (1,), (2,)):
            raise UserError(
                f"{path} holds {head}; expected numbers, one for each of the "
                f"{len(images.store):,} images of {images.store.path} or the {len(images):,} of "
                f"{images.path}"
            )
        array = read_array(path, head.kind, head.shape)
    except UnreadableError as error:
        raise UserError(f"{path} is not a readable .npy file: {error.reason}") from None
    values = np.asarray(
        array[images.rows] if len(array) == len(images.store) else array, np.float64
    )
    with np.errstate(over="ignore"):  # caught below as not finite
        values = values if values.ndim == 1 else values.mean(axis=1)
    unknown = np.flatnonzero(~np.isfinite(values))
    if unknown.size:
        raise UserError(f"{path} has no finite number for image {unknown[0]} of {images.path}")
    return values


def spread(values: np.ndarray) -> str:
    """Quantiles on one line, for choosing a limit."""
    names = {"least": 0.0, "1%": 0.01, "5%": 0.05, "median": 0.5, "95%": 0.95, "most": 1.0}
    found = np.quantile(values, list(names.values()))
    return ", ".join(f"{name} {value:.4g}" for name, value in zip(names, found, strict=True))


def write_quality(
    path: Path,
    parent: ImageSet,
    values: np.ndarray,
    measure: str,
    at_least: float | None = None,
    at_most: float | None = None,
) -> View:
    """Write the view of the images of ``parent`` whose ``values`` ``[N]`` are within the limits.

    ``measure`` names the values in the history.
    """
    if at_least is None and at_most is None:
        raise UserError("no limit is given; allowed: at least X, at most X, or both")
    limits = {"at_least": at_least, "at_most": at_most}
    for name, limit in limits.items():
        if limit is not None and not math.isfinite(limit):
            raise UserError(f"{name} is {limit}; expected a finite number")
    parameters: dict[str, Parameter] = {"measure": measure}
    parameters |= {name: float(limit) for name, limit in limits.items() if limit is not None}
    keep = within_limits(values, at_least, at_most)
    return write_subset(path, parent, keep, QUALITY, parameters)

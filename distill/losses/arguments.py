"""Checks of the arguments that a user's own training loop passes to a loss."""

from typing import Any

import torch
from torch import Tensor

from curation.errors import UserError


def check_size(what: str, value: Any, least: int) -> int:
    """Return ``value`` if it is a whole number >= ``least``; raise ``UserError`` if not."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(
            f"{what} = {value!r:.80}, but it must be a whole number of at least {least}"
        )
    return value


def check_rows(what: str, values: Any, rows: int | None = None, width: int | None = None) -> Tensor:
    """Return ``values`` if they are floats [rows, width] with a row or more, else ``UserError``."""
    fits = (
        isinstance(values, Tensor)
        and values.is_floating_point()
        and values.ndim == 2
        and len(values) == (rows or len(values)) > 0
        and values.shape[1] == (width or values.shape[1]) > 0
    )
    if not fits:
        wanted = f"[{rows or 'B'}, {width or 'D'}]"
        raise UserError(f"{what}: {_described(values)}; a tensor of floats {wanted} is needed")
    return values


def check_labels(what: str, labels: Any, rows: int, identities: int | None) -> Tensor:
    """Return ``labels`` as int64 if they are whole numbers [rows]; raise ``UserError`` if not.

    The range is checked on the CPU only: on a GPU the check would force a synchronisation, and
    the kernel reports the error itself.
    """
    if not _is_whole(labels, (rows,)):
        raise UserError(f"{what}: {_described(labels)}; whole numbers [{rows}] are needed")
    if labels.device.type == "cpu":
        least, most = int(labels.min()), int(labels.max())
        if least < 0 or most >= (identities or most + 1):
            raise UserError(
                f"{what}: {least} to {most}; 0 to {(identities or most + 1) - 1} are allowed"
            )
    return labels.long()


def check_counts(what: str, counts: Any, identities: int) -> Tensor:
    """Return ``counts`` as int64 if they are whole numbers [identities], else ``UserError``."""
    if not _is_whole(counts, (identities,)):
        raise UserError(f"{what}: {_described(counts)}; whole numbers [{identities}] are needed")
    return counts.long()


def _is_whole(values: Any, shape: tuple[int, ...]) -> bool:
    return (
        isinstance(values, Tensor)
        and not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)
        and tuple(values.shape) == shape
    )


def _described(values: Any) -> str:
    if not isinstance(values, Tensor):
        return f"{type(values).__name__} {values!r:.40}"
    return f"{str(values.dtype).removeprefix('torch.')} {list(values.shape)}"

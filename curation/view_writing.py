"""Writing views: a folder with two arrays and their history, written as a whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from curation.arrays import write_array
from curation.errors import UserError
from curation.files import atomic_file, atomic_folder, check_free
from curation.image_set import ImageSet, Parameter, RootStore, ViewStep
from curation.json_text import first_fault, parse_record
from curation.labels import UNLABELLED, are_labels, count_identities, renumbered
from curation.printable import printable
from curation.views import (
    LABELS_FILE,
    META_BYTES,
    ROWS_FILE,
    VIEW_FILE,
    OtherParent,
    OtherStore,
    SetStep,
    View,
    ViewMeta,
    view_digest,
)


class EmptyViewError(UserError):
    """No image would be left."""


def write_view(
    path: Path,
    parent: ImageSet,
    rows: np.ndarray,
    labels: np.ndarray,
    step: str,
    parameters: Mapping[str, Parameter],
) -> View:
    """Write a view atomically and open it.

    ``rows`` ``[M]`` are images of ``parent``, consecutive for each identity; ``labels`` ``[M]`` are
    their new labels, ascending from 0 without gaps, then -1 for unlabelled images. Raises
    ``UserError`` if ``path`` exists or nothing would be left.
    """
    return write_rows(path, parent, parent.rows[rows], labels, step, parameters)


def write_subset(
    path: Path,
    parent: ImageSet,
    keep: np.ndarray,
    step: str,
    parameters: Mapping[str, Parameter],
) -> View:
    """Write the view of the images where ``keep`` (bool ``[N]``) is true; see ``write_view``.

    Identities without remaining images disappear; the others keep their order.
    """
    rows = np.flatnonzero(keep)
    return write_view(path, parent, rows, renumbered(parent.labels[rows]), step, parameters)


def write_rows(
    path: Path,
    parent: ImageSet,
    rows: np.ndarray,
    labels: np.ndarray,
    step: str,
    parameters: Mapping[str, Parameter],
    other: ImageSet | None = None,
    store: RootStore | None = None,
) -> View:
    """``write_view`` with ``rows`` of the root store, or of ``store``, which starts with it;
    ``other`` is a second parent."""
    path = Path(path).absolute()
    check_free(path)
    _check_labels(path, rows, labels)
    arrays = {ROWS_FILE: np.asarray(rows, "<i8"), LABELS_FILE: np.asarray(labels, "<i4")}
    try:
        taken = ViewStep(
            name=step,
            parameters={name: _sayable(value) for name, value in parameters.items()},
            images_before=len(parent),
            identities_before=parent.identities,
            images_after=len(rows),
            identities_after=count_identities(labels),
        )
        if other is not None:
            taken = SetStep(**dict(taken), other=_describe_other(path, other))
        described = _in_json(_describe(path, parent, store or parent.store, arrays, taken))
    except UserError:
        raise
    except ValueError as error:
        reason = first_fault(error) if isinstance(error, ValidationError) else error
        raise UserError(
            f"{path} would be unreadable: {reason}; choose another name or number"
        ) from None
    _write_folder(path, arrays, described)
    return View(path)


def _check_labels(path: Path, rows: np.ndarray, labels: np.ndarray) -> None:
    if len(rows) == 0:
        raise EmptyViewError(f"{path} would have no images; choose weaker limits")
    unlabelled = int(np.count_nonzero(labels < 0))
    is_right = are_labels(np.asarray(labels, "<i4"), count_identities(labels), unlabelled)
    if len(rows) != len(labels) or not is_right:
        raise ValueError(
            f"a view's labels must ascend from 0 without gaps, {UNLABELLED} behind them, one for "
            "each row"
        )


def _describe(
    path: Path,
    parent: ImageSet,
    store: RootStore,
    arrays: Mapping[str, np.ndarray],
    taken: ViewStep,
) -> ViewMeta:
    first, *others = (
        OtherStore(path=_relative(each.path, path), digest=each.digest) for each in store.stores
    )
    return ViewMeta(
        format_version=1,
        parent=_relative(parent.path, path),
        store=first.path,
        store_digest=first.digest,
        other_stores=tuple(others),
        digest=view_digest(store, arrays[ROWS_FILE], arrays[LABELS_FILE]),
        images=taken.images_after,
        identities=taken.identities_after,
        unlabelled=int(np.count_nonzero(arrays[LABELS_FILE] < 0)),
        history=(*parent.history, taken),
    )


def _describe_other(path: Path, other: ImageSet) -> OtherParent:
    return OtherParent(
        path=_relative(other.path, path),
        digest=other.digest,
        images=len(other),
        identities=other.identities,
        history=other.history,
    )


def _relative(target: Path, view: Path) -> str:
    """The path relative to the view's folder; ``UserError`` if JSON cannot represent it."""
    path = os.path.relpath(target.resolve(), view.resolve())
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{view}: the path from it to {target} has a name that is not UTF-8, which {VIEW_FILE} "
            "cannot hold; write the view beside it, or rename the folder"
        ) from None
    return path


def _sayable(value: Parameter) -> Parameter:
    """Escape text for JSON: file names need not be UTF-8."""
    return printable(value) if isinstance(value, str) else value


def _in_json(meta: ViewMeta) -> bytes:
    """JSON that ``View`` accepts; ``ValueError`` if it would not."""
    content = meta.model_dump_json(indent=2, exclude_defaults=True).encode()
    if len(content) > META_BYTES:
        raise ValueError(f"its history has {len(content):,} bytes, more than {META_BYTES:,}")
    parse_record(content, ViewMeta)
    return content


def _write_folder(path: Path, arrays: Mapping[str, np.ndarray], described: bytes) -> None:
    with atomic_folder(path) as temporary:
        for name, array in arrays.items():
            with atomic_file(temporary / name) as file:
                write_array(file, array)
        with atomic_file(temporary / VIEW_FILE) as file:
            file.write(described)

"""Statistics of what is at a path: a store, a view, a source or a verification set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from curation.conversion.image_check import ImageCheck, good_images
from curation.conversion.journal import load_state
from curation.environment import DATA_FILE
from curation.errors import UserError
from curation.image_set import ViewStep
from curation.images import probe_size
from curation.pairs import read_pairs
from curation.progress import Progress
from curation.sources.image_source import ImageSource
from curation.sources.label_choice import USUAL, LabelChoice
from curation.sources.opening import find_format, open_source
from curation.sources.quarantine import stop_at
from curation.store import PARTIAL, Store
from curation.views import VIEW_FILE, View, open_images

QUANTILES = {"least": 0.0, "25%": 0.25, "median": 0.5, "75%": 0.75, "95%": 0.95, "most": 1.0}


def inspect_path(
    path: Path, progress: Progress | None = None, choice: LabelChoice = USUAL
) -> dict[str, Any]:
    """A JSON-compatible description of ``path``; ``kind`` is one of the four.

    All but verification sets have ``images``, ``identities``, ``image_size`` ([height, width]) and
    ``complete``. If complete, they also have the number of ``unlabelled`` images and, if there are
    identities, quantiles and a ``histogram`` of images per identity. A view has its ``history``,
    each step with the fractions that it kept. A source is read completely (with progress), and its
    ``kind`` is its own: "records", "folder". Raises ``UserError`` if ``path`` is none of the four,
    or if ``choice`` says where the labels of something else than a source are.
    """
    path = Path(path)
    unfinished = _unfinished(path)
    is_pairs = path.suffix.lower() == ".bin"
    if unfinished is None and not is_pairs and _is_source(path):
        return _describe_source(open_source(path, choice), progress)
    if choice != USUAL:
        raise UserError(
            f"the labels of {path} are fixed; --label-key and --identity-folder are for what "
            "`curate convert` reads"
        )
    if unfinished is not None:
        return _describe_unfinished(unfinished)
    return _describe_pairs(path) if is_pairs else _describe_images(open_images(path))


def _is_source(path: Path) -> bool:
    if path.is_file() or find_format(path) is not None:
        return True
    return path.is_dir() and not any((path / name).exists() for name in (DATA_FILE, VIEW_FILE))


def _unfinished(path: Path) -> Path | None:
    """The folder of an unfinished conversion to ``path``."""
    if path.name.endswith(PARTIAL) and not (path / VIEW_FILE).exists():
        return path if path.is_dir() else None
    partial = Path(f"{path}{PARTIAL}")
    return partial if partial.is_dir() and not path.exists() else None


def _describe_unfinished(partial: Path) -> dict[str, Any]:
    state = load_state(partial)
    return {
        "kind": "store",
        "path": str(partial),
        "complete": False,
        "images": state.copied if state else 0,
        "images_total": state.read if state and state.scanned else None,
        "image_size": list(state.image_size) if state and state.image_size else None,
        "skipped": state.skipped if state else 0,
        "next": "run the same `curate convert` again to continue",
    }


def _describe_images(images: Store | View) -> dict[str, Any]:
    description = {
        "kind": "view" if isinstance(images, View) else "store",
        "path": str(images.path),
        "complete": True,
        "images": len(images),
        "identities": images.identities,
        "unlabelled": images.unlabelled,
        "image_size": list(images.image_size),
        "digest": images.digest,
        **_distribution(np.diff(images.offsets)),
    }
    if isinstance(images, View):
        return description | _view_details(images)
    return description | _store_details(images)


def _view_details(view: View) -> dict[str, Any]:
    return {
        "parent": view.meta.parent,
        "store": str(view.store.path),
        "store_digest": view.store.stores[0].digest,
        **_other_stores(view),
        "history": [_describe_step(step) for step in view.history],
    }


def _other_stores(view: View) -> dict[str, Any]:
    """The stores of a view after the first."""
    others = [{"path": str(each.path), "digest": each.digest} for each in view.store.stores[1:]]
    return {"other_stores": others} if others else {}


def _describe_step(step: ViewStep) -> dict[str, Any]:
    return step.model_dump() | {
        "identities_kept": round(step.identities_after / max(step.identities_before, 1), 4),
        "images_kept": round(step.images_after / step.images_before, 4),
    }


def _store_details(store: Store) -> dict[str, Any]:
    meta = store.meta
    return {
        "encoding": meta.encoding,
        "bytes": (store.path / DATA_FILE).stat().st_size,
        "format_version": meta.format_version,
        "software": meta.software,
        "skipped": meta.skipped,
        "source": {
            "kind": meta.source_kind,
            "name": meta.source_name,
            "size": meta.source_size,
            "digest": meta.source_digest,
        },
    }


def _describe_source(source: ImageSource, progress: Progress | None) -> dict[str, Any]:
    scan = _scan(source, progress)
    _, counts = np.unique(scan.labels[scan.labels >= 0], return_counts=True)
    unlabelled = len(scan.labels) - int(counts.sum())
    remarks = source.remarks(len(scan.labels), len(counts), unlabelled, scan.image_size)
    return {
        "kind": source.kind,
        "path": str(source.path),
        "complete": True,
        "images": len(scan.labels),
        "identities": len(counts),
        "unlabelled": unlabelled,
        "image_size": list(scan.image_size),
        "digest": scan.digest,
        **_distribution(counts),
        "encoding": scan.encoding,
        "bytes": source.stamp().size,
        **source.details(),
        "warnings": list(remarks),
    }


@dataclass(frozen=True)
class _Scan:
    """The valid images of a source, in order."""

    labels: np.ndarray
    """int64 ``[N]``: identity labels, -1 for images without one"""
    image_size: tuple[int, int]
    """(height, width)"""
    encoding: Literal["jpeg", "png", "mixed"]
    digest: str
    """SHA-256 of the source"""


def _scan(source: ImageSource, progress: Progress | None) -> _Scan:
    """Read the source once and check every image as a conversion would.

    Raises ``UserError`` at the first bad record.
    """
    check = ImageCheck(source.stated_image_size())
    labels = []
    for images in source.images(progress=progress):
        good = good_images(images, check, source, stop_at)
        labels.append(good.labels)
    if check.image_size is None or not sum(map(len, labels)):
        raise UserError(f"{source.path} holds no good images{source.other_content()}")
    return _Scan(np.concatenate(labels), check.image_size, check.encoding, source.digest.hex)


def _describe_pairs(path: Path) -> dict[str, Any]:
    pairs = read_pairs(path)
    return {
        "kind": "pairs",
        "path": str(path),
        "complete": True,
        "images": len(pairs.images),
        "pairs": len(pairs),
        "same": int(pairs.same.sum()),
        "image_size": list(probe_size(pairs.images[0])),
        "digest": pairs.digest,
    }


def _distribution(counts: np.ndarray) -> dict[str, Any]:
    if not len(counts):
        return {}
    return {"images_per_identity": images_per_identity(counts), "histogram": histogram(counts)}


def images_per_identity(counts: np.ndarray) -> dict[str, int]:
    """Quantiles of ``counts`` ``[identities]``, each a value that occurs."""
    values = np.quantile(counts, list(QUANTILES.values()), method="inverted_cdf")
    return {name: int(value) for name, value in zip(QUANTILES, values, strict=True)}


def histogram(counts: np.ndarray) -> list[dict[str, int]]:
    """The number of identities with ``from`` to ``to`` images, and their total of images.

    ``counts`` ``[identities]`` are at least 1. The bins end at 1, 2, 5, 10, 20, 50, ... up to the
    largest identity; all but the last may be empty.
    """
    ends = [1]
    while ends[-1] < counts.max(initial=0):
        ends.append(ends[-1] * 5 // 2 if str(ends[-1])[0] == "2" else ends[-1] * 2)
    bin_of_each = np.searchsorted(ends, counts)
    identities = np.bincount(bin_of_each, minlength=len(ends)).tolist()
    images = np.bincount(bin_of_each, weights=counts, minlength=len(ends)).tolist()
    beginnings = [1, *(end + 1 for end in ends)]
    return [
        {"from": first, "to": last, "identities": people, "images": int(pictures)}
        for first, last, people, pictures in zip(beginnings, ends, identities, images, strict=False)
    ]

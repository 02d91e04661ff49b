"""Views: their arrays and ``view.json``, also with an updated digest."""

import hashlib
import io
import json
import random
import tempfile
from pathlib import Path

import numpy as np

from curation.export import export_records
from curation.inspection import inspect_path
from curation.report.page import write_report
from curation.report.siblings import sibling_views
from curation.subsets import load_values, spread, write_cap, write_quality, write_union
from curation.views import View
from tests.fuzz.harness import Files, Special, reader, take_in
from tests.fuzz.mutators import change_json
from tests.fuzz.small_sets import npy, small_store, store_beside


def _samples() -> list[Files]:
    store = small_store()
    with tempfile.TemporaryDirectory(dir=store.path.parent) as folder:
        cut = write_cap(Path(folder) / "cut.view", store, 4)
        union = write_union(Path(folder) / "union.view", cut, store)
        samples = [dict(take_in(view.path)) for view in (cut, union)]
    for sample in samples:
        meta = sample["view.json"]
        assert isinstance(meta, bytes)
        sample["view.json"] = meta.replace(b'"../../train.lmdb"', b'"../train.lmdb"')
    return samples


def _sign(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Change a row, a label, or a number in the history, and update the digest."""
    meta = files.get("view.json")
    try:
        assert isinstance(meta, bytes)
        told = json.loads(meta)
        arrays = [np.load(io.BytesIO(files[name])) for name in ("rows.npy", "labels.npy")]
        changed = arrays[rng.randrange(2)]
        edges = (-1, 0, 1, len(changed), 2**31 - 1, -(2**31), 5, 15)
        changed[rng.randrange(len(changed))] = rng.choice(edges)
        digest = hashlib.sha256(f"view 1 {told['store_digest']}\n".encode())
        for array in arrays:
            digest.update(array.tobytes())
        told["digest"] = digest.hexdigest()
        if rng.random() < 0.5:
            told["identities"] = told["history"][-1]["identities_after"] = rng.choice(edges)
        files["rows.npy"], files["labels.npy"] = map(npy, arrays)
        files["view.json"] = json.dumps(told).encode()
    except Exception:  # an earlier mutation broke it
        return
    if rng.random() < 0.3:
        files["view.json"] = change_json(rng, files["view.json"])


@reader("view", _samples, [_sign])
def read(folder: Path) -> None:
    """Inspect and export the view, derive another from it, and write a page about it."""
    store_beside(folder)
    path = folder.rename(folder.with_name("case.view"))
    view = View(path)
    inspect_path(path)
    for _ in view.read_many(np.arange(len(view))):
        pass
    write_cap(path.with_name("cap.view"), view, 2)
    export_records(view, path.with_name("export"))
    write_report(path.with_name("page.html"), view, views=sibling_views(view))


def _values() -> list[Files]:
    count = len(small_store())
    numbers = np.linspace(0, 1, count)
    both = np.stack([numbers, numbers], axis=1).astype(np.float16)
    return [{"values.npy": npy(array)} for array in (numbers, both, np.arange(count))]


@reader("quality", _values, share=0.3)
def read_quality(folder: Path) -> None:
    """Make a view of the images whose values are within limits."""
    store = store_beside(folder)
    values = load_values(folder / "values.npy", store)
    spread(values)
    write_quality(folder.with_name("q.view"), store, values, "values.npy", at_most=1e300)

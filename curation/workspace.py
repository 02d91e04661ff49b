"""The workspace: one folder with everything, ``./workspace`` by default.

::

    workspace/
      sources/NAME/     original RecordIO (train.rec, train.idx, property, *.bin)
      datasets/NAME/    train.lmdb, *.view, *.bin: "NAME/train" and "NAME/lfw" in a job spec
      teachers/         third-party teachers (*.onnx)
      cache/DIGEST/     a teacher's embeddings of one store
      steps/STEP-ID/    outputs of pipeline steps, shared by all jobs with the same inputs
      runs/JOB/         one folder per job
      bundles/JOB/      the result of `distill pull`
      daemon/           the queue and its socket
"""

import os
from dataclasses import dataclass
from pathlib import Path

from curation.errors import UserError
from curation.suggestions import hint

WORKSPACE_VARIABLE = "DISTILL_WORKSPACE"
QUEUE_FILE = "queue.sqlite"
"""In ``daemon/``"""
EVALUATION = "evaluation set"
"""Name in messages of a set to evaluate on; it may be a pair set."""


@dataclass(frozen=True)
class Workspace:
    """The folders of one workspace; nothing is created until something is written."""

    root: Path

    @classmethod
    def locate(cls, given: Path | None = None) -> "Workspace":
        """``given``, else ``$DISTILL_WORKSPACE``, else ``./workspace``.

        Raises ``UserError`` if it is not a folder, because it would look like an empty workspace.
        """
        root = Path(given or os.environ.get(WORKSPACE_VARIABLE) or "workspace").resolve()
        if root.exists() and not root.is_dir():
            raise UserError(
                f"the workspace {root} is a file; give a folder (--workspace, {WORKSPACE_VARIABLE})"
            )
        return cls(root)

    @property
    def sources(self) -> Path:
        return self.root / "sources"

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def teachers(self) -> Path:
        return self.root / "teachers"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def steps(self) -> Path:
        return self.root / "steps"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def bundles(self) -> Path:
        return self.root / "bundles"

    @property
    def daemon(self) -> Path:
        return self.root / "daemon"

    def inside(self, name: str, below: Path, what: str) -> Path:
        """``below/name`` with every link resolved; refused if it is outside the workspace."""
        try:
            path = (below / name).resolve()
        except (ValueError, RuntimeError) as error:  # an invalid character; a link loop
            raise UserError(f"{what} {name[:80]!r} is not a path: {error}") from None
        if not path.is_relative_to(self.root):
            reason = ""
            if ".." not in Path(name).parts and not Path(name).is_absolute():
                reason = (
                    f", because a link leads to {path}; copy that into the workspace, or move the "
                    "workspace to that disk (--workspace, DISTILL_WORKSPACE)"
                )
            raise UserError(f"{what} {name[:80]!r} is outside the workspace {self.root}{reason}")
        return path

    def image_set(self, name: str, what: str = "data set", or_pairs: bool = False) -> Path:
        """The store or view called ``"DATASET/NAME"``.

        ``or_pairs``: the error also lists pair sets, which the caller accepts too.
        """
        base = self.inside(name, self.datasets, what)
        for candidate in (base.with_name(base.name + ".view"), base.with_name(base.name + ".lmdb")):
            if candidate.is_dir():
                return self.inside(candidate.name, base.parent, what)
        known = self.image_sets() + (self.pair_sets() if or_pairs else [])
        store = self.datasets / "SET" / "NAME.lmdb"
        advice = hint(name, known, f"`curate recipe` and `curate convert SOURCE {store}` make them")
        looked = f"looked for {base}.view{', .lmdb and .bin' if or_pairs else ' and .lmdb'}"
        raise UserError(f"{what} {name!r} is not in the workspace ({looked}){advice}")

    def full_name(self, name: str, beside: str | None = None) -> str:
        """``DATASET/NAME`` of a set of images or pairs.

        The data set may be left out: the set is the one in the data set ``beside``, or the only one
        of that name. ``UserError`` if there are several. A name that does not exist is returned
        unchanged, or as one in ``beside``.
        """
        if "/" in name:
            return name
        known = {*self.image_sets(), *self.pair_sets()}
        found = sorted(each for each in known if each.split("/")[1] == name)
        near = name if beside is None else f"{beside}/{name}"
        if near in found or not found:
            return near
        if len(found) > 1:
            raise UserError(f"several data sets have a {name!r}; allowed: {', '.join(found)}")
        return found[0]

    def image_sets(self) -> list[str]:
        """Names of all stores and views, as job specs write them."""
        found = [*self.datasets.glob("*/*.lmdb"), *self.datasets.glob("*/*.view")]
        return sorted(f"{path.parent.name}/{path.stem}" for path in found)

    def pair_sets(self) -> list[str]:
        """Names of all pair sets."""
        found = self.datasets.glob("*/*.bin")
        return sorted(f"{path.parent.name}/{path.stem}" for path in found)

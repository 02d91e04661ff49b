"""The contact sheets of augmented views on job pages, created by ``distill views``.

It runs in a separate process because it loads the teacher and needs a gigabyte. The sheets are
cached by the text of the spec.
"""

import hashlib
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from curation.errors import UserError
from curation.toml_text import read_toml
from curation.workspace import Workspace
from distill.last_words import error_in, last_line
from distill.spec_source import UNNAMED_SPEC

LONGEST_SECONDS = 600.0
MOST_KEPT = 50
_LOOK_SECONDS = 0.2
_SHEETS = "view-sheets"


def has_views(spec: str) -> bool:
    """Whether a spec has ``[augment]``."""
    try:
        return bool(read_toml(spec, UNNAMED_SPEC).get("augment"))
    except UserError:
        return False


class ViewSheets:
    """The sheets of a workspace; ``ending`` is set when the server stops."""

    def __init__(self, workspace: Workspace, ending: threading.Event) -> None:
        self._workspace, self._ending = workspace, ending
        self._one = threading.Lock()

    def find(self, spec: str) -> Path | None:
        """The sheet of a spec, if it exists."""
        path = self._path(spec)
        return path if path.is_file() else None

    def make(self, spec: str) -> Path:
        """Create the sheet, one at a time; the ``UserError`` states why it could not be created."""
        if not self._one.acquire(blocking=False):
            raise UserError("a sheet of views is being made; try again when it is finished")
        try:
            path = self._path(spec)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._run(spec, path)
            self._forget_old(path.parent)
            return path
        finally:
            self._one.release()

    def _path(self, spec: str) -> Path:
        digest = hashlib.sha256(spec.encode()).hexdigest()[:24]
        return self._workspace.daemon / _SHEETS / f"{digest}.png"

    def _run(self, spec: str, sheet: Path) -> None:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
            path = Path(folder) / "spec.toml"
            path.write_text(spec, encoding="utf-8", newline="")
            command = [sys.executable, "-m", "distill.cli.main", "views", str(path)]
            places = ["--sheet", str(sheet), "--workspace", str(self._workspace.root)]
            process = subprocess.Popen(
                [*command, *places], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            if not self._ended(process):
                late = f"the sheet was not finished in {LONGEST_SECONDS:.0f} s"
                raise UserError("the server stops" if self._ending.is_set() else late)
            output.seek(0)
            text = output.read(1 << 20).decode(errors="replace").replace(str(path), UNNAMED_SPEC)
        if process.returncode:
            raise UserError(error_in(text) or f"`distill views` ended: {last_line(text)}")

    def _ended(self, process: "subprocess.Popen[bytes]") -> bool:
        """Wait for the process; False if the time limit passed or the server stopped."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while time.monotonic() < deadline and not self._ending.is_set():
            try:
                process.wait(_LOOK_SECONDS)
                return True
            except subprocess.TimeoutExpired:
                continue
        process.kill()
        process.wait()
        return False

    def _forget_old(self, folder: Path) -> None:
        sheets = sorted(folder.glob("*.png"), key=lambda path: path.stat().st_mtime)
        for path in sheets[:-MOST_KEPT]:
            path.unlink(missing_ok=True)

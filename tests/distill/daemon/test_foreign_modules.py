"""An untrusted working directory: none of its modules is run because the user is in it."""

import subprocess
import sys
from pathlib import Path

import pytest

PLANTED = ("http", "uvicorn", "sqlite3", "numpy", "distill", "curation", "logging", "subprocess")
CALL = (
    "import sys; sys.argv = ['distill', *sys.argv[1:]]\nfrom distill.cli.main import main\nmain()"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module of each name that reports when it is run."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name in PLANTED:
        text = f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\nraise SystemExit(7)\n"
        (folder / f"{name}.py").write_text(text)
    (folder / "a.toml").write_text("name = 'a'\n")
    return folder


def test_commands_import_no_module_from_the_current_folder(folder: Path) -> None:
    def distill(*arguments: str) -> str:
        # Like the script `distill`, whose module path begins with its own folder.
        command = [sys.executable, "-P", "-c", CALL, *arguments, "--workspace", "../workspace"]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        return ran.stdout + ran.stderr

    try:
        assert "serves" in distill("serve", "--background")
        assert "a.toml:1:1" in distill("submit", "a.toml")
        assert "a.toml:1:1" in distill("check", "a.toml")
    finally:
        assert "has stopped" in distill("stop")
    assert not (folder.parent / "ran").exists()

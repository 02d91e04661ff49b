"""A folder of somebody else's is only a folder: nothing in it is run because the user is there."""

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
    """With a module of each name, which says that it ran."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name in PLANTED:
        text = f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\nraise SystemExit(7)\n"
        (folder / f"{name}.py").write_text(text)
    (folder / "a.toml").write_text("name = 'a'\n")
    return folder


def test_commands_and_what_they_start_run_no_module_beside_them(folder: Path) -> None:
    def distill(*arguments: str) -> str:
        # As the script `distill` does, whose own path of modules begins with its folder.
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

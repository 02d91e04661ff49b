"""Pulling a bundle: checked, whole, and never over something else."""

import hashlib
from pathlib import Path

import pytest

from curation.errors import UserError
from curation.workspace import Workspace
from distill.daemon.delivery import bundle_of, deliver


def make_bundle(folder: Path, **files: bytes) -> Path:
    (folder / "golden").mkdir(parents=True)
    files = files or {"model.onnx": b"weights", "golden/a.npy": b"golden"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    sums = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()]
    (folder / "SHA256SUMS").write_text("".join(sums))
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "steps" / "export" / "bundle")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_copy_is_the_bundle(bundle: Path, tmp_path: Path) -> None:
    destination = tmp_path / "new" / "place"
    assert deliver(bundle, destination)
    assert contents(destination) == contents(bundle)
    assert [path.name for path in destination.parent.iterdir()] == ["place"]


def test_again_there_is_nothing_to_do(bundle: Path, tmp_path: Path) -> None:
    destination = tmp_path / "place"
    deliver(bundle, destination)
    before = (destination / "model.onnx").stat().st_ino
    assert not deliver(bundle, destination)
    assert (destination / "model.onnx").stat().st_ino == before


def test_what_the_checksums_do_not_list_stays_behind(bundle: Path, tmp_path: Path) -> None:
    (bundle / "notes.txt").write_text("private")
    deliver(bundle, tmp_path / "place")
    assert "notes.txt" not in contents(tmp_path / "place")


def test_a_damaged_bundle_is_not_delivered(bundle: Path, tmp_path: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"weightz")
    with pytest.raises(UserError, match="SHA-256"):
        deliver(bundle, tmp_path / "place")
    assert not (tmp_path / "place").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["steps"]


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd"])
def test_a_list_that_leaves_the_bundle_is_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    (bundle / "SHA256SUMS").write_text(f"{'0' * 64}  {name}\n")
    with pytest.raises(UserError, match="leaves the bundle"):
        deliver(bundle, tmp_path / "place")


def test_another_bundle_is_replaced_only_by_force(bundle: Path, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "place", model=b"other")
    with pytest.raises(UserError, match="--force"):
        deliver(bundle, other)
    assert contents(other)["model"] == b"other"
    assert deliver(bundle, other, force=True)
    assert contents(other) == contents(bundle)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place", "steps"]


def test_a_damaged_copy_is_made_anew_by_force(bundle: Path, tmp_path: Path) -> None:
    destination = tmp_path / "place"
    deliver(bundle, destination)
    (destination / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged one"):
        deliver(bundle, destination)
    assert deliver(bundle, destination, force=True)
    assert contents(destination) == contents(bundle)


def test_what_is_no_bundle_is_never_replaced(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years of work")
    for destination in (home, home / "thesis.txt"):
        with pytest.raises(UserError, match="is no bundle"):
            deliver(bundle, destination, force=True)
    assert (home / "thesis.txt").read_text() == "years of work"


def test_an_empty_folder_is_filled(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert deliver(bundle, tmp_path / "empty")
    assert contents(tmp_path / "empty") == contents(bundle)


def test_the_bundle_of_a_job_is_found_through_its_link(bundle: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run = workspace.runs / "job"
    run.mkdir(parents=True)
    with pytest.raises(UserError, match="no bundle yet"):
        bundle_of(workspace, "job")
    (run / "bundle").symlink_to(bundle)
    assert bundle_of(workspace, "job") == bundle


def test_a_link_out_of_the_workspace_is_refused(bundle: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    run = workspace.runs / "job"
    run.mkdir(parents=True)
    (run / "bundle").symlink_to(bundle)
    with pytest.raises(UserError, match="outside the workspace"):
        bundle_of(workspace, "job")


@pytest.mark.parametrize("name", ["..", "../steps", "nobody"])
def test_a_job_that_never_ran_has_no_bundle(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"cannot name a job|there is no job"):
        bundle_of(Workspace(tmp_path), name)

"""Pulling a bundle: verified, complete, and never over something else."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from curation.errors import UserError
from curation.workspace import Workspace
from distill.daemon import delivery
from distill.daemon.delivery import bundle_of, deliver
from distill.export.bundle_files import FILES
from distill.export.config import BundleConfig, FaceConfig
from teachers.preprocessing import Preprocessing

THRESHOLDS = {
    "distance": "cosine",
    "rule": "same person where cosine > threshold",
    "note": "",
    "false_accept_rates": {"1e-2": None},
    "best_accuracy": None,
}


def files_of_a_bundle(**others: bytes) -> dict[str, bytes]:
    """All files of a bundle, small; network files have placeholder bytes."""
    config = BundleConfig(
        architecture="mobilefacenet",
        num_features=8,
        face=FaceConfig(preprocessing=Preprocessing.ours((112, 112))),
    )
    written = {
        "README.md": b"a card",
        "config.json": config.model_dump_json().encode(),
        "evaluation.json": b"{}",
        "golden/golden.safetensors": b"golden",
        "lineage.json": b"{}",
        "model.onnx": b"weights",
        "model.safetensors": b"weights",
        "thresholds.json": json.dumps(THRESHOLDS).encode(),
    }
    return written | others


def make_bundle(folder: Path, files: dict[str, bytes] | None = None) -> Path:
    files = files_of_a_bundle() if files is None else files
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
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


def test_a_second_run_has_nothing_to_do(bundle: Path, tmp_path: Path) -> None:
    destination = tmp_path / "place"
    deliver(bundle, destination)
    before = (destination / "model.onnx").stat().st_ino
    assert not deliver(bundle, destination)
    assert (destination / "model.onnx").stat().st_ino == before


def test_files_missing_in_the_checksums_stay_behind(bundle: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("lines", [0, 1, 5, 7])
def test_a_list_that_was_cut_is_refused(bundle: Path, tmp_path: Path, lines: int) -> None:
    """An empty list matches an empty folder, but the required files of a bundle are known."""
    kept = (bundle / "SHA256SUMS").read_text().splitlines(keepends=True)[:lines]
    (bundle / "SHA256SUMS").write_text("".join(kept))
    with pytest.raises(UserError, match=r"SHA256SUMS does not list [\w./]+; not a whole bundle"):
        deliver(bundle, tmp_path / "place")
    assert [path.name for path in tmp_path.iterdir()] == ["steps"]


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_file_of_a_bundle_is_needed(tmp_path: Path, name: str) -> None:
    files = files_of_a_bundle()
    del files[name]
    bundle = make_bundle(tmp_path / "bundle", files)
    with pytest.raises(UserError, match=f"does not list {name}"):
        deliver(bundle, tmp_path / "place")


@pytest.mark.parametrize("name", ["run.sh", "golden/more.npy", ".profile", "SHA256SUMS "])
def test_a_file_that_no_bundle_has_is_refused(tmp_path: Path, name: str) -> None:
    bundle = make_bundle(tmp_path / "bundle", files_of_a_bundle(**{name: b"more"}))
    with pytest.raises(UserError, match=r"is not a file of a bundle|is not a new line"):
        deliver(bundle, tmp_path / "place")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", b"{}", r"config\.json: architecture"),
        ("config.json", b'{"architecture": 1}', r"config\.json: "),
        ("config.json", b"[" * 40_000, r"config\.json: it is nested deeper than 64"),
        ("config.json", b'{"a": 1e999}', r"config\.json: it has a number"),
        ("thresholds.json", b"[]", r"thresholds\.json: "),
        ("thresholds.json", b"\xff", r"thresholds\.json: it is not UTF-8"),
        ("evaluation.json", b"[]", r"evaluation\.json: it is not an object"),
        ("evaluation.json", b'{"a": NaN}', r"evaluation\.json: it has NaN"),
        ("lineage.json", b'{"a": 1, "a": 2}', r"lineage\.json: an object has the key"),
        ("lineage.json", b" " * (1 << 22) + b"{}", r"lineage\.json: 4,194,306 bytes; this file"),
    ],
)
def test_malformed_records_are_refused(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    bundle = make_bundle(tmp_path / "bundle", files_of_a_bundle(**{name: content}))
    with pytest.raises(UserError, match=words) as error:
        deliver(bundle, tmp_path / "place")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("name", ["model.onnx", "golden", "SHA256SUMS"])
def test_pipes_and_links_in_the_place_of_files_are_refused(
    bundle: Path, tmp_path: Path, name: str
) -> None:
    (bundle / name).rename(tmp_path / "elsewhere")
    (bundle / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"a link|not a bundle"):
        deliver(bundle, tmp_path / "place")
    (bundle / name).unlink()
    os.mkfifo(bundle / name)
    with pytest.raises(UserError, match=r"missing|not a plain file|not a bundle"):
        deliver(bundle, tmp_path / "place")


def test_a_bundle_that_changes_in_a_copy_is_not_delivered(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfileobj

    def copy_and_change(source, target) -> None:
        copy(source, target)
        (bundle / "model.onnx").write_bytes(b"changed")

    monkeypatch.setattr(delivery.shutil, "copyfileobj", copy_and_change)
    with pytest.raises(UserError, match="it changed while it was copied; pull again"):
        deliver(bundle, tmp_path / "place")
    assert [path.name for path in tmp_path.iterdir()] == ["steps"]


@pytest.mark.parametrize("force", [False, True])
def test_leftovers_of_a_killed_pull_are_removed(bundle: Path, tmp_path: Path, force: bool) -> None:
    partial = tmp_path / ".place.partial"
    (partial / "golden").mkdir(parents=True)
    (partial / "model.onnx").write_bytes(b"half")
    if force:  # killed after moving the older bundle away, before the new one was in place
        make_bundle(tmp_path / ".place.replaced", files_of_a_bundle(**{"README.md": b"old"}))
        with pytest.raises(UserError, match="holds a different or damaged bundle"):
            deliver(bundle, tmp_path / "place")
        assert (tmp_path / "place" / "README.md").read_bytes() == b"old"
    assert deliver(bundle, tmp_path / "place", force)
    assert contents(tmp_path / "place") == contents(bundle)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place", "steps"]


def test_a_changed_copy_has_the_name_of_its_destination(bundle: Path, tmp_path: Path) -> None:
    names: list[str] = []
    deliver(bundle, tmp_path / "place", revise=lambda copy: names.append(copy.name))
    assert names == ["place"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place", "steps"]


def test_a_full_disk_leaves_no_partial_file(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source, target) -> None:
        raise OSError(28, "No space left on device", "place")

    monkeypatch.setattr(delivery.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        deliver(bundle, tmp_path / "place")
    assert [path.name for path in tmp_path.iterdir()] == ["steps"]


def test_own_files_next_to_a_bundle_are_not_lost(bundle: Path, tmp_path: Path) -> None:
    destination = tmp_path / "place"
    deliver(bundle, destination)
    (destination / "notes.txt").write_text("years of work")
    (destination / "README.md").write_text("damaged")
    with pytest.raises(UserError, match=r"such as 'notes.txt'.*give another destination"):
        deliver(bundle, destination, force=True)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    (downloads / "SHA256SUMS").write_text("")
    with pytest.raises(UserError, match="is not a bundle"):
        deliver(bundle, downloads, force=True)
    assert (destination / "notes.txt").read_text() == "years of work"


def test_a_change_in_place_names_the_file_that_would_be_lost(bundle: Path) -> None:
    (bundle / "mine").mkdir()
    (bundle / "mine" / "app.kt").write_text("years of work")
    with pytest.raises(UserError, match="'mine'") as caught:
        deliver(bundle, bundle, force=True, revise=lambda copy: None)
    assert "another destination" not in str(caught.value)
    assert (bundle / "mine" / "app.kt").exists()


def test_another_bundle_is_replaced_only_by_force(bundle: Path, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "place", files_of_a_bundle(**{"model.onnx": b"other"}))
    with pytest.raises(UserError, match="--force"):
        deliver(bundle, other)
    assert contents(other)["model.onnx"] == b"other"
    assert deliver(bundle, other, force=True)
    assert contents(other) == contents(bundle)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place", "steps"]


def test_a_damaged_copy_is_made_again_by_force(bundle: Path, tmp_path: Path) -> None:
    destination = tmp_path / "place"
    deliver(bundle, destination)
    (destination / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged bundle"):
        deliver(bundle, destination)
    assert deliver(bundle, destination, force=True)
    assert contents(destination) == contents(bundle)


def test_anything_but_a_bundle_is_never_replaced(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years of work")
    for destination in (home, home / "thesis.txt"):
        with pytest.raises(UserError, match="is not a bundle"):
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
    with pytest.raises(UserError, match=r"is not a job name|there is no job"):
        bundle_of(Workspace(tmp_path), name)

"""Where a job comes from: what is recorded, what has changed, and hostile records."""

import subprocess
import sys
from pathlib import Path

import pytest

from distill import software
from distill.provenance import Circumstances, Code, changes, parse_provenance, read_provenance

ONE, OTHER = "1" * 64, "2" * 64


def circumstances(**other) -> Circumstances:
    known = {
        "code": Code(version="1.0", digest=ONE, commit="a" * 40, changed=False),
        "versions": {"python": "3.11.7", "torch": "2.14.1"},
        "data": {"ms1m/train": ONE, "lfw": ONE},
        "teacher": {"r100.onnx": ONE},
        "beginning": {"tiny": ONE},
    }
    return Circumstances(**{**known, **other})


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ({}, []),
        ({"versions": {"python": "3.12.1"}}, ["python was 3.11.7 and is 3.12.1"]),
        ({"versions": {"python": "3.11.7"}}, []),
        ({"data": {"ms1m/train": OTHER, "lfw": ONE}},
         [f"the data set ms1m/train had the digest {ONE[:12]} and has {OTHER[:12]}"]),
        ({"teacher": {"r100.onnx": OTHER}},
         [f"the teacher r100.onnx had the digest {ONE[:12]} and has {OTHER[:12]}"]),
        ({"teacher": {}}, []),
        ({"beginning": {"tiny": OTHER}},
         [f"the beginning tiny had the digest {ONE[:12]} and has {OTHER[:12]}"]),
        ({"code": Code(version="1.0", digest=OTHER, commit="b" * 40, changed=True)},
         ["the code was commit aaaaaaaaaaaa and is commit bbbbbbbbbbbb with changes"]),
        ({"code": Code(version="1.1", digest=OTHER)},
         [f"the code was commit aaaaaaaaaaaa and is 1.1, digest {OTHER[:12]}"]),
        ({"code": Code(version="1.0", digest=OTHER, commit="a" * 40, changed=False)},
         [f"the code was digest {ONE[:12]} and is digest {OTHER[:12]}"]),
    ],
)  # fmt: skip
def test_changes_are_reported_with_both_values(now: dict, words: list[str]) -> None:
    assert list(changes(circumstances(), circumstances(**now))) == words


def test_a_teacher_that_came_later_is_no_change() -> None:
    assert list(changes(circumstances(teacher={}), circumstances())) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"at": 1}', "null", "\0" * 100])
def test_a_record_that_is_none_is_absent(tmp_path: Path, text: str) -> None:
    (tmp_path / "provenance.json").write_text(text)
    assert read_provenance(tmp_path) is None
    assert parse_provenance(text) is None


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three packages in their own folder, in place of the software."""
    for name in ("curation", "teachers", "distill"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"# {name}\n")
        monkeypatch.setattr(getattr(software, name), "__path__", [str(tmp_path / name)])
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def test_the_digest_of_the_code_is_of_names_and_bytes(packages: Path) -> None:
    before = software.code_on_disk()
    assert (before.commit, before.changed) == (None, None)
    (packages / "distill" / "__pycache__").mkdir()
    (packages / "distill" / "__pycache__" / "x.pyc").write_bytes(b"1")
    (packages / "other.py").write_text("not of the software")
    assert software.code_on_disk() == before
    (packages / "distill" / "new.py").write_text("")
    added = software.code_on_disk()
    (packages / "distill" / "new.py").rename(packages / "distill" / "newer.py")
    assert len({before.digest, added.digest, software.code_on_disk().digest}) == 3


def test_a_checkout_reports_its_commit_and_its_changes(packages: Path) -> None:
    git(packages, "init", "-q")
    assert software.code_on_disk().commit is None, "the packages are none of its files yet"
    git(packages, "add", ".")
    git(packages, "commit", "-qm", "first")
    clean = software.code_on_disk()
    assert len(clean.commit) == 40
    assert clean.changed is False
    (packages / "notes.txt").write_text("beside the packages")
    assert software.code_on_disk() == clean
    (packages / "distill" / "new.py").write_text("")
    assert software.code_on_disk().changed is True


def test_an_installation_inside_a_checkout_has_no_commit(packages: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "own.py").write_text("")
    git(tmp_path, "add", "own.py")
    git(tmp_path, "commit", "-qm", "somebody's")
    assert software.code_on_disk().commit is None


def test_without_git_there_is_the_digest(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert software.code_on_disk().commit is None


def test_versions_are_found_without_importing_anything() -> None:
    script = (
        "import sys; from distill.software import code_on_disk, versions; code_on_disk();"
        "print(versions()['torch'], 'torch' in sys.modules, 'onnxruntime' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split()[1:] == ["False", "False"]

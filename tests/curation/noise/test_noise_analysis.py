"""Running all checks: what is written, what is not repeated, what is refused."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simulated_people import embedded, people

from curation.errors import UserError
from curation.locks import locked
from curation.noise.analysis import LABEL_ERRORS_FILE, analyse, find_noise
from curation.noise.check import all_checks
from curation.noise.decisions import DECISIONS_FILE, Decision, read_decisions, write_decisions
from curation.noise.embedded import EmbeddedImages, EvaluationImages
from curation.noise.findings import FINDINGS_FILE, Findings, findings_folder
from curation.noise.proposals import PROPOSED_FILE
from curation.progress import Progress
from curation.store import Store

TEACHER = "e1" * 32
STRAYED = 5


def drawn_people() -> EmbeddedImages:
    """The drawn images as people: six identities with eight images each, one mislabelled."""
    vectors, person = people([8] * 6)
    vectors[STRAYED] = people([9] * 6)[0][20]
    return embedded(vectors, person, np.linspace(10, 20, 48).astype(np.float32))


def run(store: Store, folder: Path, **more) -> Findings:
    return analyse(store, drawn_people(), more.pop("digest", TEACHER), folder, **more)


class Watched:
    """Records the steps that were started."""

    def __init__(self, stop_at: str | None = None) -> None:
        self.begun: list[str] = []
        self.stop_at = stop_at

    @contextmanager
    def __call__(self, title: str, unit: str) -> Iterator[Progress | None]:
        self.begun.append(title)
        if title == self.stop_at:
            raise KeyboardInterrupt
        yield None


def contents(folder: Path) -> dict[str, list]:
    """The subjects and scores of every finding."""
    findings = Findings(folder)
    loaded = [findings.load(name) for name in findings.checks]
    return {one.check: [one.subjects.tolist(), one.scores.tolist()] for one in loaded}


def test_everything_is_checked_and_decided(drawn_store: Store, tmp_path: Path) -> None:
    sets = [EvaluationImages("lfw", people([3] * 40, seed=9)[0], "d1" * 32)]
    findings = run(drawn_store, tmp_path / "f", evaluation=sets)
    assert findings.checks == tuple(all_checks())
    meta = findings.meta
    assert (meta.images, meta.identities, meta.images_name) == (48, 6, "drawn")
    assert (meta.images_digest, meta.embeddings_digest) == (drawn_store.digest, TEACHER)
    assert meta.evaluation == {"lfw": "d1" * 32}
    assert "flat index over 6 vectors" in (meta.search or "")
    for summary in meta.checks:
        one = findings.load(summary.check)
        assert (summary.scored, summary.flagged) == (len(one.scores), one.flagged.sum())
    table = read_decisions(tmp_path / "f" / DECISIONS_FILE, drawn_store.digest)
    assert STRAYED in {decision.image for decision in table}


def test_chosen_checks_run_in_their_order(drawn_store: Store, tmp_path: Path) -> None:
    assert run(drawn_store, tmp_path, checks=["mixed", "misplaced"]).checks == (
        "misplaced",
        "mixed",
    )


def test_finished_checks_are_not_repeated(drawn_store: Store, tmp_path: Path) -> None:
    first, second = Watched(), Watched()
    run(drawn_store, tmp_path, watch=first)
    assert first.begun == ["label errors", *all_checks()]
    before = contents(tmp_path)
    run(drawn_store, tmp_path, watch=second)
    assert second.begun == []
    assert contents(tmp_path) == before


def test_further_checks_are_added_to_existing_ones(drawn_store: Store, tmp_path: Path) -> None:
    run(drawn_store, tmp_path, checks=["divided"])
    watched = Watched()
    findings = run(drawn_store, tmp_path, watch=watched)
    assert "divided" not in watched.begun
    assert set(findings.checks) == set(all_checks())


@pytest.mark.parametrize("stop_at", ["label errors", "misplaced", "duplicate", "overlap"])
def test_stopped_anywhere_it_resumes_and_finds_the_same(
    drawn_store: Store, tmp_path: Path, stop_at: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(drawn_store, tmp_path / "stopped", watch=Watched(stop_at))
    assert not (tmp_path / "stopped" / DECISIONS_FILE).exists()
    watched = Watched()
    run(drawn_store, tmp_path / "stopped", watch=watched)
    run(drawn_store, tmp_path / "whole")
    names = list(all_checks())
    done = names.index(stop_at) if stop_at in names else 0
    assert watched.begun == ["label errors", *names[done:]]
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")
    tables = [(tmp_path / name / DECISIONS_FILE).read_bytes() for name in ("stopped", "whole")]
    assert tables[0] == tables[1]


KILLED = """
import os, signal, sys
sys.path[:0] = {tests!r}
from pathlib import Path
from test_noise_analysis import Watched, run
from curation.store import Store

class Killing(Watched):
    def __call__(self, title, unit):
        if title == "unusable":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(title, unit)

run(Store({store!r}), Path({folder!r}), watch=Killing())
"""


def test_killed_between_two_checks_it_resumes(drawn_store: Store, tmp_path: Path) -> None:
    code = KILLED.format(
        tests=[str(folder) for folder in Path(__file__).parents[:2]],
        store=str(drawn_store.path),
        folder=str(tmp_path),
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert killed.returncode == -9, killed.stderr
    assert Findings(tmp_path).checks == ("misplaced", "mixed", "divided", "duplicate")
    watched = Watched()
    run(drawn_store, tmp_path, watch=watched)
    assert watched.begun == ["label errors", "unusable", "overlap"]


@pytest.mark.parametrize("damage", [b"", b"no zip", None])
def test_damaged_label_errors_are_estimated_again(
    drawn_store: Store, tmp_path: Path, damage: bytes | None
) -> None:
    whole = contents(run(drawn_store, tmp_path).path)
    path = tmp_path / LABEL_ERRORS_FILE
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    meta = json.loads((tmp_path / FINDINGS_FILE).read_text())
    meta["checks"] = meta["checks"][:1]
    (tmp_path / FINDINGS_FILE).write_text(json.dumps(meta))
    run(drawn_store, tmp_path)
    assert contents(tmp_path) == whole


def test_a_check_without_its_summary_is_run_again(drawn_store: Store, tmp_path: Path) -> None:
    whole = contents(run(drawn_store, tmp_path).path)
    meta = json.loads((tmp_path / FINDINGS_FILE).read_text())
    meta["checks"] = [one for one in meta["checks"] if one["check"] != "mixed"]
    (tmp_path / FINDINGS_FILE).write_text(json.dumps(meta))
    (tmp_path / "mixed.npz").write_bytes(b"half of it")
    run(drawn_store, tmp_path)
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_proposals_are_rewritten_if_they_are_not_a_file(
    drawn_store: Store, tmp_path: Path, kind: str
) -> None:
    whole = contents(run(drawn_store, tmp_path).path)
    path = tmp_path / PROPOSED_FILE
    path.unlink()
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    (tmp_path / "mixed.npz").unlink()
    run(drawn_store, tmp_path)
    assert contents(tmp_path) == whole


def test_edited_decisions_are_kept(drawn_store: Store, tmp_path: Path) -> None:
    run(drawn_store, tmp_path)
    table = tmp_path / DECISIONS_FILE
    table.write_text(table.read_text().replace("yes\t", "no\t"))
    run(drawn_store, tmp_path)
    assert not any(one.apply for one in read_decisions(table, drawn_store.digest))


@pytest.mark.parametrize("edited", [False, True])
def test_decisions_follow_further_checks_and_keep_edits(
    drawn_store: Store, tmp_path: Path, edited: bool
) -> None:
    run(drawn_store, tmp_path, checks=["overlap"])
    table = tmp_path / DECISIONS_FILE
    own = Decision("drop", 0, 0, note="my own")
    if edited:
        write_decisions(table, drawn_store.digest, [own])
    said: list[str] = []
    run(drawn_store, tmp_path, say=said.append)
    proposed = read_decisions(tmp_path / PROPOSED_FILE, drawn_store.digest)
    assert proposed
    decided = read_decisions(table, drawn_store.digest)
    assert decided == ([own, *proposed] if edited else proposed)
    assert ["keeps your edits" in line for line in said] == [True] * edited


LFW = EvaluationImages("lfw", people([3] * 40, seed=9)[0], "d1" * 32)
CFP = EvaluationImages("cfp", people([3] * 40, seed=8)[0], "d2" * 32)


def edit(folder: Path, images_digest: str) -> list[Decision]:
    """What a person edits: one verdict reversed, one line added."""
    table = folder / DECISIONS_FILE
    first, *others = read_decisions(table, images_digest)
    lines = [replace(first, apply=False), *others, Decision("merge", 4, into=3, note="my own")]
    write_decisions(table, images_digest, lines)
    return lines


def test_other_evaluation_sets_rerun_only_overlap(drawn_store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    run(drawn_store, folder, evaluation=[LFW])
    others = {path: path.read_bytes() for path in folder.glob("*.npz") if path.stem != "overlap"}
    edited = edit(folder, drawn_store.digest)
    watched, said = Watched(), []
    findings = run(drawn_store, folder, evaluation=[LFW, CFP], watch=watched, say=said.append)
    assert watched.begun == ["label errors", "overlap"]
    assert (
        "sets have changed from lfw to lfw, cfp: overlap runs again; other findings are kept"
        in said[0]
    )
    assert list(findings.meta.evaluation) == ["lfw", "cfp"]
    assert set(findings.checks) == set(all_checks())
    assert {path: path.read_bytes() for path in others} == others
    assert set(edited) <= set(read_decisions(folder / DECISIONS_FILE, drawn_store.digest))
    assert list(tmp_path.iterdir()) == [folder]


def test_a_check_without_evaluation_sets_keeps_overlap(drawn_store: Store, tmp_path: Path) -> None:
    run(drawn_store, tmp_path, evaluation=[LFW])
    watched = Watched()
    run(drawn_store, tmp_path, evaluation=[], checks=["mixed"], watch=watched)
    assert watched.begun == []
    assert list(Findings(tmp_path).meta.evaluation) == ["lfw"]


def test_another_teachers_findings_are_kept_and_come_back(
    drawn_store: Store, tmp_path: Path
) -> None:
    folder, said = tmp_path / "f", []
    run(drawn_store, folder, checks=["misplaced"])
    edited = edit(folder, drawn_store.digest)
    run(drawn_store, folder, checks=["misplaced"], digest="00" * 32, say=said.append)
    (aside,) = [path for path in tmp_path.iterdir() if path != folder]
    assert f"was made with another teacher; it is kept, with its decisions, as {aside}" in said[0]
    assert read_decisions(aside / DECISIONS_FILE, drawn_store.digest) == edited
    assert Findings(folder).meta.embeddings_digest == "00" * 32
    watched = Watched()
    run(drawn_store, folder, checks=["misplaced"], watch=watched, say=said.append)
    assert watched.begun == []
    assert read_decisions(folder / DECISIONS_FILE, drawn_store.digest) == edited
    assert "this teacher's earlier findings are restored as" in said[-1]
    assert len(list(tmp_path.iterdir())) == 2


def test_findings_on_earlier_contents_are_kept(
    drawn_store: Store, store: Store, tmp_path: Path
) -> None:
    folder, said = tmp_path / "f", []
    run(drawn_store, folder, checks=["misplaced"])
    labels = store.labels
    vectors = embedded(people([16])[0], labels, np.ones(16, np.float32))
    analyse(store, vectors, TEACHER, folder, checks=["misplaced"], say=said.append)
    assert "was made for earlier contents of train.lmdb; it is kept" in said[0]
    assert Findings(folder, store).checks == ("misplaced",)
    (aside,) = tmp_path.glob("f.*")
    assert Findings(aside, drawn_store).checks == ("misplaced",)


@pytest.mark.parametrize("content", [b"", b"{", b'{"format_version": 7}'])
def test_a_damaged_folder_is_kept_and_checked_again(
    drawn_store: Store, tmp_path: Path, content: bytes
) -> None:
    folder, said = tmp_path / "f", []
    run(drawn_store, folder, checks=["misplaced"])
    edited = edit(folder, drawn_store.digest)
    (folder / FINDINGS_FILE).write_bytes(content)
    run(drawn_store, folder, checks=["misplaced"], say=said.append)
    assert "was damaged; the folder was moved to" in said[0]
    kept = tmp_path / "f.damaged" / DECISIONS_FILE
    assert read_decisions(kept, drawn_store.digest) == edited
    assert Findings(folder).checks == ("misplaced",)


def test_a_damaged_check_is_run_again(drawn_store: Store, tmp_path: Path) -> None:
    whole = contents(run(drawn_store, tmp_path).path)
    (tmp_path / "mixed.npz").write_bytes(b"half of it")
    watched = Watched()
    run(drawn_store, tmp_path, watch=watched)
    assert watched.begun == ["label errors", "mixed"]
    assert contents(tmp_path) == whole


def test_two_processes_do_not_write_the_same_folder(drawn_store: Store, tmp_path: Path) -> None:
    run(drawn_store, tmp_path / "f", checks=["mixed"])
    with locked(tmp_path / "f"):
        for digest in (TEACHER, "00" * 32):
            with pytest.raises(UserError, match="another process is writing"):
                run(drawn_store, tmp_path / "f", digest=digest)
    assert Findings(tmp_path / "f").checks == ("mixed",)


def test_a_damaged_table_is_named_before_the_long_work(drawn_store: Store, tmp_path: Path) -> None:
    run(drawn_store, tmp_path, checks=["mixed"])
    (tmp_path / DECISIONS_FILE).write_text("half of it")
    watched = Watched()
    with pytest.raises(UserError, match=r"decisions\.tsv line 1"):
        run(drawn_store, tmp_path, watch=watched)
    assert watched.begun == []


def test_an_unknown_check_is_named_with_the_known_ones(drawn_store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no check 'blurred'; there are: misplaced, mixed, divided"):
        run(drawn_store, tmp_path / "f", checks=["mixed", "blurred"])
    assert not (tmp_path / "f").exists()


class NeverAsked:
    """A teacher that must not be used."""

    def embed(self, images: Store, progress: Progress | None) -> tuple[EmbeddedImages, str]:
        raise AssertionError("it was asked")

    def embed_evaluation(
        self, paths: Sequence[Path], progress: Progress | None
    ) -> list[EvaluationImages]:
        raise AssertionError("it was asked")


def test_an_unknown_check_is_refused_before_anything_is_embedded(drawn_store: Store) -> None:
    with pytest.raises(UserError, match="no check 'blurred'"):
        find_noise(drawn_store, NeverAsked(), [], ["blurred"])


def test_unusable_evaluation_sets_are_refused_before_embedding(
    drawn_store: Store, drawn_folder: Path, tmp_path: Path
) -> None:
    pairs = drawn_folder / "pairs.bin"
    (tmp_path / "broken.bin").write_bytes(b"no pickle")
    (tmp_path / "pairs.bin").write_bytes(pairs.read_bytes())
    for sets, message in (
        ([pairs, tmp_path / "broken.bin"], r"broken\.bin"),
        ([pairs, tmp_path / "gone.bin"], r"gone\.bin"),
        ([pairs, tmp_path / "pairs.bin"], "2 evaluation sets have the name pairs"),
    ):
        with pytest.raises(UserError, match=message):
            find_noise(drawn_store, NeverAsked(), sets)


def test_findings_are_stored_next_to_the_images(drawn_store: Store) -> None:
    assert findings_folder(drawn_store) == drawn_store.path.parent / "drawn.findings"

"""A file in the folder of checks is a check: scored, proposed, explained and shown."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from parsed_page import parse_page
from test_curate_check import TEACHER, write_teacher

from curation.errors import UserError
from curation.noise import check as registry
from curation.noise import checks
from curation.noise.analysis import analyse
from curation.noise.check import Context, all_checks
from curation.noise.decisions import DECISIONS_FILE, read_decisions
from curation.noise.embedded import EmbeddedImages, EvaluationImages
from curation.noise.label_errors import estimate_label_errors
from curation.noise.presentation import ScoredSubject
from curation.report.page import write_report
from curation.report.siblings import sibling_findings
from curation.store import Store
from curation.views import View

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "add-a-check.md"
CURATE = """
import sys

from curation.noise import checks

checks.__path__.append(sys.argv.pop(1))
from distill.cli.curate import main

main()
"""

TILTED = """
import numpy as np

from curation.noise.check import NoiseCheck, check
from curation.noise.decisions import Decision
from curation.noise.presentation import Explanation


@check("tilted", "image", order=15, precedence=1, explanation=Explanation(
    "Tilted faces", "The head is turned sideways.", "Are both eyes on one line?",
    "The image is given to identity 0."))
class Tilted(NoiseCheck):
    def score(self, context, progress=None):
        angle = np.linspace(0, 90, len(context.images)).astype(np.float32)
        return self.finding(angle / 100, {"angle": angle}, f"{(angle > 50).sum()} are tilted")

    def propose(self, finding, fates):
        for image in np.flatnonzero(finding.flagged & ~fates.settled).tolist():
            fates.settled[image] = True
            identity, score = int(fates.images.labels[image]), float(finding.scores[image])
            yield Decision("move", identity, image, 0, score=score, note="it is tilted")

    def propose_one(self, one):
        return [Decision("move", one.identity, one.index, 0)]

    def evidence(self, one):
        row = one.row(0, "It would go to")
        return one.shown(f"Tilted by {one.number('angle'):.0f} degrees.", row)
"""

SCORE_ALONE = """
import numpy as np

from curation.noise.check import NoiseCheck, check
from curation.noise.presentation import Explanation


@check("{name}", "image", explanation=Explanation("Grey images", "They have no colour."))
class Grey(NoiseCheck):
    def score(self, context, progress=None):
        grey = np.isin(np.arange(len(context.images)), [2, 11]).astype(np.float32)
        return self.finding(grey, {{}}, "2 are grey")
"""


@pytest.fixture(scope="module")
def place(drawn_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Findings of two added checks on the drawn store, by the command, and their report."""
    folder = tmp_path_factory.mktemp("dropped")
    shutil.copytree(drawn_store.path, folder / "train.lmdb")
    write_teacher(folder / "teacher.onnx")
    (folder / "room").mkdir()
    (folder / "room" / "tilted.py").write_text(TILTED)
    (folder / "room" / "grey.py").write_text(SCORE_ALONE.format(name="grey"))
    checked = curate(folder, "check", "train.lmdb", "--teacher", "teacher.onnx", *TEACHER, "--json")
    assert checked.returncode == 0, checked.stderr
    (folder / "first.json").write_text(checked.stdout)
    assert curate(folder, "report", "train.lmdb").returncode == 0
    return folder


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose files are also checks, in this process."""
    monkeypatch.setattr(checks, "__path__", [*checks.__path__, str(tmp_path)])
    before = dict(registry._CHECKS)
    modules = set(sys.modules)
    yield tmp_path
    registry._CHECKS.clear()
    registry._CHECKS.update(before)
    for name in set(sys.modules) - modules:
        if name.startswith(checks.__name__):
            del sys.modules[name]


def curate(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The command, with the checks in ``room/`` of the folder."""
    return subprocess.run(
        [sys.executable, "-c", CURATE, str(folder / "room"), *arguments],
        cwd=folder,
        env=os.environ | {"DISTILL_WORKSPACE": str(folder / "ws"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_an_added_check_runs_in_its_order(place: Path) -> None:
    ran = json.loads((place / "first.json").read_text())["checks"]
    assert [one["check"] for one in ran][:3] == ["misplaced", "tilted", "mixed"]
    assert ran[-1]["check"] == "grey"
    assert ran[1]["summary"] == "21 are tilted"


def test_its_flags_are_proposed_by_its_precedence(place: Path) -> None:
    table = read_decisions(
        place / "train.findings" / DECISIONS_FILE, Store(place / "train.lmdb").digest
    )
    tilted = [line for line in table if line.check == "tilted"]
    assert [line.image for line in tilted] == list(range(27, 48))
    assert {(line.action, line.into, line.note) for line in tilted} == {("move", 0, "it is tilted")}
    assert table.index(tilted[0]) == 0
    settled = {line.image for line in tilted}
    assert not [line for line in table if line.check == "misplaced" and line.image in settled]


def test_a_check_that_only_scores_drops_its_images(place: Path) -> None:
    digest = Store(place / "train.lmdb").digest
    table = read_decisions(place / "train.findings" / DECISIONS_FILE, digest)
    others = {line.image for line in table if line.check != "grey"}
    grey = [(line.action, line.image) for line in table if line.check == "grey"]
    assert grey == [("drop", image) for image in (2, 11) if image not in others]


def test_the_report_explains_it_and_shows_its_evidence(place: Path) -> None:
    page = parse_page((place / "train.report.html").read_text())
    (section,) = [node for node in page.all("section", "check") if node["data-check"] == "tilted"]
    assert "Tilted faces" in section.text
    assert "The head is turned sideways. Are both eyes on one line?" in section.text
    assert "The image is given to identity 0." in section.text
    cases = {node["data-key"]: node for node in section.all("article")}
    flagged, below = cases["tilted-47"], cases["tilted-26"]
    assert "Tilted by 90 degrees." in flagged.text
    assert "It would go to: identity 0" in flagged.all("div", "row")[1].text
    assert "Will move image 47 to identity 0" in flagged.text
    assert "Will not move image 26 to identity 0" in below.text


def test_its_decisions_are_applied(place: Path) -> None:
    finished = curate(place, "clean", "train.lmdb", "clean.view")
    assert finished.returncode == 0, finished.stderr
    assert View(place / "clean.view").history[-1].parameters["move"] == 21


def test_help_lists_it(place: Path) -> None:
    listed = "divided, duplicate, grey, misplaced, mixed, overlap, tilted, unusable"
    assert listed in curate(place, "check", "--help").stdout


def test_findings_of_a_removed_check_are_shown(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "train.lmdb", tmp_path / "train.lmdb")
    shutil.copytree(place / "train.findings", tmp_path / "train.findings")
    images = Store(tmp_path / "train.lmdb")
    write_report(tmp_path / "page.html", images, sibling_findings(images))
    assert "Tilted images" in parse_page((tmp_path / "page.html").read_text()).text


def test_the_example_of_the_documentation_is_a_check(room: Path, drawn_store: Store) -> None:
    (example,) = re.findall(r"```python\n(.*?curation\.noise\.check.*?)```", PAGE.read_text(), re.S)
    (room / "dark.py").write_text(example)
    dark = all_checks()["dark"]
    images = embedded_store(drawn_store)
    finding = dark.score(Context(drawn_store, images, estimate_label_errors(images)))
    assert (finding.summary, finding.flagged.sum()) == ("0 of 48 images are dark", 0)
    shown = dark.evidence(ScoredSubject(finding, 3, drawn_store))
    assert re.fullmatch(r"The mean pixel is \d+ of 255\.", shown.reason)


def test_every_check_has_a_file_with_its_name() -> None:
    assert checks.check_names() == sorted(all_checks())


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("another.py", SCORE_ALONE.format(name="mixed"), r"checks\.mixed and in .*checks\.another"),
        ("grey.py", SCORE_ALONE.format(name="gray"), r"checks\.grey: .* 'gray' is gray\.py"),
        ("membership.py", SCORE_ALONE.format(name="membership"), "cannot be called 'membership'"),
        ("Grey.py", SCORE_ALONE.format(name="Grey"), "cannot be called 'Grey'"),
        (
            "grey.py",
            SCORE_ALONE.format(name="grey").replace("def score", "def scores"),
            "'grey' has no method score",
        ),
    ],
)  # fmt: skip
def test_an_invalid_check_is_refused(room: Path, file: str, content: str, message: str) -> None:
    (room / file).write_text(content)
    with pytest.raises(UserError, match=message):
        all_checks()


KINDS = """
import numpy as np

from curation.noise.check import NoiseCheck, check
from curation.noise.decisions import Decision
from curation.noise.presentation import Explanation


@check("{name}", "{subject}", explanation=Explanation("Some", "They are some."))
class Some(NoiseCheck):
    {body}

    def score(self, context, progress=None):
        {score}
"""
SOME_IMAGES = (
    # Not ascending.
    "return self.finding(np.ones(2, np.float32), {}, '2 are some', np.array([9, 4]))"
)
ALL_IDENTITIES = "return self.finding(np.linspace(0, 1, 6, dtype=np.float32), {}, '3 are some')"
PAIRS = """
        other = np.array([1, 0, 3, 2, 5, 4])
        return self.finding(np.ones(6, np.float32), {'twin': other}, '6 are some')"""
MERGE = """merge_column = "twin"

    def propose(self, finding, fates):
        for one in (0, 2, 4):
            yield Decision("merge", one, into=one + 1)
"""


@pytest.mark.parametrize(
    ("subject", "body", "score", "proposed"),
    [
        ("image", "scores_all = False", SOME_IMAGES, [("drop", 9, None), ("drop", 4, None)]),
        ("identity", "", ALL_IDENTITIES, []),
        ("identity", MERGE, PAIRS, [("merge", None, 1), ("merge", None, 3), ("merge", None, 5)]),
    ],
)
def test_checks_of_every_kind_are_proposed_and_shown(
    room: Path, drawn_store: Store, tmp_path: Path, subject, body, score, proposed
) -> None:
    (room / "some.py").write_text(
        KINDS.format(name="some", subject=subject, body=body or "pass", score=score)
    )
    folder = tmp_path / "findings"
    findings = analyse(drawn_store, embedded_store(drawn_store), "e1" * 32, folder, (), ["some"])
    table = read_decisions(folder / DECISIONS_FILE, drawn_store.digest)
    assert [(line.action, line.image, line.into) for line in table] == proposed
    write_report(tmp_path / "page.html", drawn_store, findings)
    cases = parse_page((tmp_path / "page.html").read_text()).all("article")
    assert len(cases) == {"image": 2, "identity": 6 if not body else 3}[subject]


def test_a_check_using_evaluation_sets_reruns_with_others(
    room: Path, drawn_store: Store, tmp_path: Path
) -> None:
    (room / "some.py").write_text(
        KINDS.format(name="some", subject="identity", body="uses_evaluation_sets = True",
                     score=ALL_IDENTITIES)
    )  # fmt: skip
    images, said = embedded_store(drawn_store), list[str]()
    for digest in ("a1" * 32, "b2" * 32):
        sets = [EvaluationImages("lfw", images.vectors(np.arange(4)), digest)]
        analyse(drawn_store, images, "e1" * 32, tmp_path / "f", sets, ["some"], say=said.append)
    assert said == [
        "the evaluation sets have changed from lfw to lfw: some runs again; other findings are kept"
    ]


@pytest.mark.parametrize("scores", ["[-0.1]", "[1.5]", "[np.nan]"])
def test_scores_that_are_not_probabilities_are_an_error(
    room: Path, drawn_store: Store, tmp_path: Path, scores: str
) -> None:
    score = f"return self.finding(np.array({scores} * 48), {{}}, '')"
    (room / "some.py").write_text(
        KINDS.format(name="some", subject="image", body="pass", score=score)
    )
    images = embedded_store(drawn_store)
    with pytest.raises(ValueError, match="some has scores that are not from 0 to 1"):
        analyse(drawn_store, images, "e1" * 32, tmp_path / "f", (), ["some"])
    assert not (tmp_path / "f" / "some.npz").exists()


def embedded_store(store: Store) -> EmbeddedImages:
    """The store's images, with a direction of its own for each identity."""
    vectors = np.eye(6, dtype=np.float32)[store.labels]
    return EmbeddedImages(store.labels, vectors, np.ones(48, np.float32), np.arange(48))

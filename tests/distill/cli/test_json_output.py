"""Every command with --json prints one valid document, with the facts of its table, on stdout."""

import contextlib
import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.main import get_command
from typer.testing import CliRunner

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.images import encode_jpeg
from curation.json_text import parse_json
from curation.workspace import Workspace
from distill.cli.curate import app as curate
from distill.cli.main import app as distill
from distill.daemon.opening import open_queue
from distill.daemon.outcome import Outcome
from distill.daemon.placing import Placing
from distill.daemon.states import Event
from tests.conftest import draw
from tests.distill.small_job import job_text, network_text, stage_text
from tests.reference.cli import commands
from tests.standin_detector import drawn_face, picture_with, standin_detector

TESTS = Path(__file__).parents[2]
NOWHERE = "no/such"
APPS = {"curate": curate, "distill": distill}
TEACHER = "--teacher small --least-accuracy 0"
FINDINGS = "workspace/datasets/drawn/train.findings"
VIEW = "drawn/train drawn/new"
EXAMPLES = {
    "distill backbones": "mobilefacenet iresnet100",
    "distill cancel": "waits held",
    "distill check": "job.toml",
    "distill clean": "--older-than 0h",
    "distill compare": "done other",
    "distill diff": "done other",
    "distill drain": "",
    "distill embed": "small face.jpg other.jpg --aligned",
    "distill evaluate": "good drawn/pairs drawn/train",
    "distill history": "failed",
    "distill identify": "good drawn/train",
    "distill init": "--train drawn/train",
    "distill move": "waits --first",
    "distill pause": "waits",
    "distill pull": "done pulled",
    "distill remove": "done failed",
    "distill report": "good poor --on drawn/pairs",
    "distill resume": "held",
    "distill retry": "failed",
    "distill show": "done",
    "distill sign": "small --key key.pem",
    "distill status": "",
    "distill submit": "job.toml",
    "distill threshold": "good drawn/train --far 1e-2",
    "distill undrain": "",
    "distill verify": "small",
    "distill views": "job.toml --sheet sheet.png",
    "distill wait": "done other",
    "curate check": f"drawn/train {TEACHER}",
    "curate clean": f"drawn/train drawn/new --decisions {FINDINGS}/decisions.tsv",
    "curate convert": "faces new.lmdb",
    "curate embed": "drawn/train --teacher small",
    "curate export": "drawn/train exported",
    "curate inspect": "drawn/train",
    "curate join": "drawn/train drawn/other drawn/new --by name",
    "curate pairs": "pairs.csv drawn/new --images faces",
    "curate photos": "album photos.lmdb --detector detector.onnx",
    "curate recipes": "",
    "curate report": "drawn/train",
    "curate review": "drawn/train --status",
    "curate verify": "drawn/train",
    "curate view cap": f"{VIEW} --each 2",
    "curate view difference": "drawn/train drawn/half drawn/new",
    "curate view drop": f"{VIEW} images.txt --by index",
    "curate view intersection": "drawn/train drawn/half drawn/new",
    "curate view keep": f"{VIEW} images.txt --by index",
    "curate view long-tail-cut": f"{VIEW} --minimum 2",
    "curate view merge": f"{VIEW} same.txt",
    "curate view prune": f"{VIEW} {TEACHER} --share 0.1 --least 2",
    "curate view quality": f"{VIEW} --measure sharpness --at-least 1",
    "curate view random": f"{VIEW} --identities 3",
    "curate view relabel": f"{VIEW} labels.txt --by index",
    "curate view retina-s": VIEW,
    "curate view split": f"{VIEW} labels.txt --by index",
    "curate view union": "drawn/train drawn/half drawn/new",
}
"""Arguments of each command in the folder of ``template``"""
ELSEWHERE = {
    "distill doctor": "distill/doctor/test_doctor.py",
    "distill export": "distill/cli/test_exporting.py",
    "distill latency": "distill/cli/test_latency.py",
    "distill open": "distill/web/test_web_guard.py",
    "curate cluster": "curation/test_clustering.py",
    "curate recipe": "curation/recipes/test_recipe_sources.py",
}
"""The tests of commands that take seconds or need a daemon"""
NUMBER_OR_FILE = re.compile(r"(?<=\s)\d[\d,]*(?:\.\d+)?(?=[\s,;])(?! %)|[\w./-]+\.[a-z]\w*")
ADVICE = ("sign.pub",)
"""File names in the next command that a table ends with"""
CANNOT_FAIL = ("curate recipes",)


def run(folder: Path, words: str, *more: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command in ``folder``."""
    program, *arguments = words.split()
    with contextlib.chdir(folder):
        ran = CliRunner().invoke(APPS[program], [*arguments, *more], env={"COLUMNS": "400"})
    if isinstance(ran.exception, UserError | OSError):  # the program prints these
        return 1, ran.stdout, str(ran.exception)
    if not isinstance(ran.exception, SystemExit | None):
        raise ran.exception
    return ran.exit_code, ran.stdout, ran.stderr


def write_sets(folder: Path, pairs: Path) -> Workspace:
    """A workspace with images of eight people, labelled and unlabelled, and a verification set."""
    for person, image in itertools.product(range(8), repeat=2):
        path = folder / "faces" / f"person-{person}" / f"{image}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(draw(person, image)))
    place = Workspace(folder / "workspace")
    datasets = place.datasets / "drawn"
    datasets.mkdir(parents=True)
    convert(folder / "faces", datasets / "train.lmdb")
    shutil.copytree(folder / "faces" / "person-1", folder / "others" / "person-1")
    shutil.copytree(folder / "faces" / "person-2", folder / "others" / "person-9")
    convert(folder / "others", datasets / "other.lmdb")
    shutil.copy(pairs, datasets)
    return place


def write_jobs(place: Workspace, bundle: Path) -> None:
    """Jobs in several states, two of them with bundles."""
    ends = {
        "done": Outcome(event=Event.SUCCEED),
        "other": Outcome(event=Event.SUCCEED),
        "failed": Outcome(event=Event.FAIL, reason="the disk is full", hint="free some"),
    }
    with open_queue(place) as queue:
        for number, (name, end) in enumerate(ends.items()):
            text = job_text(name, stage_text(epochs=1 + number))
            queue.submit(name, text, 1000.0)
            queue.claim(1001.0)
            queue.settle(name, 1, lambda cancelled, end=end: end, 1010.5)
            run_folder = place.runs / name
            run_folder.mkdir(parents=True)
            (run_folder / "spec.toml").write_text(text)
            if end.event is Event.SUCCEED:
                shutil.copytree(bundle, run_folder / "bundle")
                evaluation = (bundle / "evaluation.json").read_bytes()
                (run_folder / "evaluation.json").write_bytes(evaluation)
        queue.submit("waits", job_text("waits", stage_text()), 1020.0)
        queue.submit("held", job_text("held", stage_text()), 1021.0, Placing(hold=True))


def write_embeddings(folder: Path) -> None:
    """Embeddings of the drawn sets by two "networks"."""
    generator = np.random.default_rng(0)
    for name in ("good", "poor"):
        (folder / name).mkdir()
        for each, count in (("train", 64), ("pairs", 80)):
            vectors = generator.normal(size=(count, 16)).astype(np.float32)
            np.save(folder / name / f"{each}.npy", vectors)


def write_files(folder: Path) -> None:
    """The other files that the examples name."""
    (folder / "job.toml").write_text(
        job_text("job", stage_text(), "[augment]\nviews = 3\n", student=network_text(size=(48, 48)))
    )
    for image, name in enumerate(("face.jpg", "other.jpg")):
        (folder / name).write_bytes(encode_jpeg(draw(0, image)))
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    standin_detector(folder / "detector.onnx")
    (folder / "album").mkdir()
    photograph = picture_with([(drawn_face(1), (2, 3), 220)], (320, 768))
    (folder / "album" / "one.jpg").write_bytes(encode_jpeg(photograph))
    rows = [f"person-{n}/0.jpg,person-{n + n % 2}/1.jpg,{1 - n % 2}" for n in range(7)]
    (folder / "pairs.csv").write_text("\n".join(rows))
    for name, text in (("images", "0\n9\n"), ("same", "0 1\n"), ("labels", "0 1\n1 1\n")):
        (folder / f"{name}.txt").write_text(text)


@pytest.fixture(scope="module")
def template(
    tmp_path_factory: pytest.TempPathFactory,
    drawn_folder: Path,
    small_bundle: Path,
) -> Path:
    """A folder with a workspace, and files for every example."""
    folder = tmp_path_factory.mktemp("json") / "template"
    place = write_sets(folder, drawn_folder / "pairs.bin")
    for path in (folder / "small", place.teachers / "small"):
        shutil.copytree(small_bundle, path)
    write_jobs(place, small_bundle)
    write_embeddings(folder)
    write_files(folder)
    for line in ("view cap drawn/train drawn/half --each 4", f"check drawn/train {TEACHER}"):
        assert run(folder, f"curate {line}")[0] == 0
    return folder


@pytest.fixture
def room(template: Path) -> Callable[[], Path]:
    """Makes a fresh copy of ``template``, always at the same place."""

    def fresh() -> Path:
        folder = template.with_name("room")
        shutil.rmtree(folder, ignore_errors=True)
        return Path(shutil.copytree(template, folder))

    return fresh


def with_json() -> list[str]:
    """The full names of all commands with --json."""
    return [
        name
        for program, app in APPS.items()
        for name, command in commands(program, get_command(app))
        if any("--json" in each.opts for each in command.params)
    ]


def test_every_command_with_json_has_an_example() -> None:
    assert sorted(with_json()) == sorted([*EXAMPLES, *ELSEWHERE]), "add it to EXAMPLES"
    for file in ELSEWHERE.values():
        assert '"--json"' in (TESTS / file).read_text()


@pytest.mark.parametrize("name", EXAMPLES)
def test_json_has_the_facts_of_the_table(name: str, room: Callable[[], Path]) -> None:
    line = f"{name} {EXAMPLES[name]}"
    status, table, said = run(room(), line)
    assert status == 0, said
    status, text, said = run(room(), line, "--json")
    assert status == 0, said
    known = {*facts_of(parse_json(text.encode())), *ADVICE}
    facts = [fact.rstrip(",") for fact in NUMBER_OR_FILE.findall(table)]
    assert [fact for fact in facts if fact not in known] == []


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in CANNOT_FAIL])
def test_an_error_leaves_stdout_empty(name: str, template: Path) -> None:
    """The first argument is replaced by one that does not exist, or the workspace by a file."""
    first, *others = EXAMPLES[name].split() or [""]
    words = [NOWHERE, *others] if first and not first.startswith("--") else [first, *others]
    wrong = "" if words[0] == NOWHERE else "--workspace face.jpg"
    status, text, said = run(template, f"{name} {' '.join(words)} {wrong} --json")
    assert (status, text) in ((1, ""), (2, "")), said
    assert said


def facts_of(value: Any) -> Iterator[str]:
    """What a table may show of a JSON value: names, words of texts, counts, rounded numbers."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from facts_of(key)
            yield from facts_of(inner)
    elif isinstance(value, list):
        yield f"{len(value):,}"
        for inner in value:
            yield from facts_of(inner)
    elif isinstance(value, int | float):
        for unit, places in itertools.product((1, 100, 1e-3, 1e-6), range(8)):
            yield f"{value * unit:,.{places}f}"
        yield str(value)
    elif isinstance(value, str):
        yield from (value, Path(value).name)
        yield from NUMBER_OR_FILE.findall(f" {value} ")

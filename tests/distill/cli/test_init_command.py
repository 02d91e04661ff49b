"""`distill init`: writes a first spec for the data and checks it before printing."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from small_job import make_workspace
from typer.testing import CliRunner

import teachers
from curation.conversion.convert import convert
from curation.images import encode_jpeg
from distill.cli.init import job_name
from distill.cli.main import app
from distill.spec_source import check_name
from distill.spec_text import parse_spec

DRAWN_TEACHER = ("--teacher", "faces.onnx", "--size", "64")
SAID = ("--colour", "RGB", "--mean", "127.5", "--std", "127.5")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, drawn_store, drawn_folder):
    made = make_workspace(tmp_path_factory.mktemp("workspace"), drawn_store, drawn_folder)
    made.teachers.mkdir()
    shutil.copy(Path(teachers.__path__[0]) / "drawn_faces.onnx", made.teachers / "faces.onnx")
    return made


def init(workspace, *options, train="drawn/train"):
    given = ["init", "--train", train, *options, "--workspace", str(workspace.root)]
    return CliRunner().invoke(app, given)


def refusal(outcome):
    assert outcome.exit_code != 0
    return str(outcome.exception)


def test_the_spec_has_a_reason_for_every_value(workspace, drawn_store):
    outcome = init(workspace, *DRAWN_TEACHER, *SAID)
    assert outcome.exit_code == 0, outcome.output
    job = parse_spec(outcome.stdout, "spec")
    assert job.name == "drawn-mobilefacenet"
    assert job.data.train == "drawn/train"
    assert job.data.evaluate == ["pairs"]
    assert job.teacher.source == "faces.onnx"
    assert job.student.embedding == 64  # the teacher's
    assert job.student.input_size == (48, 48)  # of the drawn images
    assert "angular" in job.stage[0].losses
    settings = [line for line in outcome.stdout.splitlines() if " = " in line and line[0] != "#"]
    above = outcome.stdout.splitlines()
    for line in settings:
        assert "  # " in line or above[above.index(line) - 1].startswith("# "), line


def test_json_has_every_choice_and_the_spec(workspace):
    told = json.loads(init(workspace, "--json", "--name", "mine").stdout)
    assert told["name"] == "mine"
    assert parse_spec(told["text"], "spec").name == "mine"
    choices = {each["key"]: each for each in told["choices"]}
    assert choices["train.batch_size"]["value"] == parse_spec(told["text"], "").train.batch_size
    assert all(each["reason"] for each in choices.values())


def test_without_a_teacher_only_labels_supervise(workspace):
    job = parse_spec(init(workspace, "--student", "edgeface_xxs").stdout, "spec")
    assert job.teacher is None
    assert set(job.stage[0].losses) == {"arcface"}
    assert job.train.optimiser == "adamw"
    assert job.student.backbone == "edgeface_xxs"


def test_several_sets_are_trained_on_together(workspace):
    datasets = workspace.datasets
    shutil.copytree(datasets / "drawn" / "train.lmdb", datasets / "more" / "all.lmdb")
    outcome = init(workspace, "--train", "more/all")
    assert outcome.exit_code == 0, outcome.exception
    job = parse_spec(outcome.stdout, "spec")
    assert [each.set for each in job.data.sets] == ["drawn/train", "more/all"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (DRAWN_TEACHER, "--teacher faces.onnx: --colour, --mean and --std are missing"),
        (("--teacher", "face.onnx"), "there is no network 'face.onnx'"),
        (("--teacher", "timm/resnet18"), "'timm/resnet18' is a network without weights"),
        (("--teacher", "iresnet50"), "--backbone iresnet50"),
        (("--teacher", "teachers/faces.onnx", *SAID), "did you mean 'faces.onnx'?"),
        (("--teacher", "faces.onnx", *SAID, "--part", "fc"), "no output 'fc'; it has"),
        ((*DRAWN_TEACHER, *SAID, "--backbone", "iresnet50"), "--backbone is for files of weights"),
        ((*DRAWN_TEACHER, *SAID[:-1], "1e9"), "--std: must be at most 65536"),
        (("--teacher", "faces.onnx", *SAID, "--size", "99999"), "--size: must be at most 4096"),
        (("--student", "mobilefacenett"), "mobilefacenet"),
        (
            ("--student", "faces.onnx"),
            "'faces.onnx' is in teachers/, not the name of a network; a graph can only be a "
            'teacher: from = "faces.onnx" in [teacher]',
        ),
        (("--teacher", "nobody"), "--teacher nobody: 'nobody' is neither a file"),
        (("--student", "mobilefacenet", "--mflops", "450"), "give --student or --mflops, not both"),
        (("--mflops", "20"), "the smallest student here is edgeface_xxs"),
        (("--name", "../mine"), "--name: '../mine' is not a job name; allowed: "),
        (("--train", "more"), "--train more: give a set of the workspace"),
        (("--train", "drawn/train"), "--train drawn/train is given twice"),
        (("--teacher", ".."), "there is no network '..'"),
    ],
)
def test_impossible_options_are_refused_in_one_line(workspace, options, said):
    reason = refusal(init(workspace, *options))
    assert said in reason
    assert "\n" not in reason


def test_a_set_without_labels_is_trained_on_with_a_teacher(workspace, drawn_folder):
    convert(drawn_folder, workspace.datasets / "street" / "all.lmdb", unlabelled=True)
    outcome = init(workspace, *DRAWN_TEACHER, *SAID, train="street/all")
    assert outcome.exit_code == 0, outcome.exception
    job = parse_spec(outcome.stdout, "spec")
    assert set(job.stage[0].losses) == {"angular"}
    assert job.data.evaluate == []
    assert '"drawn/pairs" is one elsewhere' in outcome.stdout


def drawn_set(workspace, name, count, size):
    """A store of ``count`` images of ``size`` (height, width), two of each identity."""
    for number in range(count):
        folder = workspace.root / name / f"{number // 2}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.full((*size, 3), number, np.uint8)
        (folder / f"{number}.jpg").write_bytes(encode_jpeg(pixels, 90))
    convert(workspace.root / name, workspace.datasets / name / "train.lmdb")
    return f"{name}/train"


def test_the_student_has_the_aspect_of_the_images(workspace):
    outcome = init(workspace, train=drawn_set(workspace, "casia", 20, (112, 96)))
    assert outcome.exit_code == 0, outcome.exception
    assert parse_spec(outcome.stdout, "spec").student.input_size == (112, 96)
    assert "# the aspect of the images, 112x96" in outcome.stdout


@pytest.mark.parametrize("student", ["mobilefacenet", "vargfacenet", "oct_resnet_a", "iresnet18"])
def test_the_stride_of_the_student_divides_its_input(workspace, student):
    train = drawn_set(workspace, f"celeba-{student}", 20, (109, 89))
    outcome = init(workspace, "--student", student, train=train)
    assert outcome.exit_code == 0, outcome.exception


def test_the_set_with_too_few_images_is_named(workspace):
    reason = refusal(init(workspace, train=drawn_set(workspace, "few", 6, (112, 112))))
    assert reason.startswith("--train few/train: the data set has 6 images; a training set needs")


def test_no_line_of_the_unseen_spec_is_named(workspace):
    other = drawn_set(workspace, "wide", 20, (96, 112))
    reason = refusal(init(workspace, *DRAWN_TEACHER, *SAID, train=other))
    assert reason.startswith("teacher: data.train 'wide/train': images of 96x112 pixels show less")


@pytest.mark.parametrize("student", ["timm/mobilenetv3_small_100", "mobilefacenet_s"])
def test_every_network_gives_a_job_name(workspace, student):
    outcome = init(workspace, "--student", student)
    assert outcome.exit_code == 0, outcome.exception
    last = student.rpartition("/")[2].replace("_", "-")
    assert parse_spec(outcome.stdout, "spec").name.endswith(last)


@pytest.mark.parametrize("dataset", ["MS1M", "-street", "läden", "a" * 80])
def test_every_data_set_gives_a_job_name(dataset):
    assert check_name(job_name(dataset, "mobilefacenet")).endswith("mobilefacenet")


def test_the_advised_command_copies_a_teacher_elsewhere(tmp_path, drawn_store, drawn_folder):
    workspace = make_workspace(tmp_path / "new workspace", drawn_store, drawn_folder)
    assert not workspace.teachers.exists()
    graph = Path(teachers.__path__[0]) / "drawn_faces.onnx"
    reason = refusal(init(workspace, "--teacher", str(graph), "--size", "64", *SAID))
    assert reason.endswith("and give --teacher drawn_faces.onnx")
    subprocess.run(["bash", "-ec", reason.split("`")[1]], check=True)
    outcome = init(workspace, "--teacher", "drawn_faces.onnx", "--size", "64", *SAID)
    assert outcome.exit_code == 0, outcome.output


def test_a_bundle_elsewhere_must_be_copied_with_its_files(workspace, tmp_path):
    reason = refusal(init(workspace, "--teacher", str(tmp_path)))
    assert f"cp -r {tmp_path} {workspace.teachers}`" in reason


@pytest.mark.parametrize("option", [("--mean", "0"), ("--size", "64"), ("--backbone", "y2")])
def test_a_bundle_takes_no_options_of_files(workspace, option):
    bundle = workspace.teachers / "given"
    bundle.mkdir(exist_ok=True)
    (bundle / "config.json").write_text("{}")
    reason = refusal(init(workspace, "--teacher", "given", *option))
    assert f"given: {option[0]} is for .onnx files and files of weights" in reason


def test_a_missing_set_is_named(workspace):
    assert "did you mean 'drawn/train'?" in refusal(init(workspace, train="drawn/trian"))


def test_a_student_that_is_a_job_is_advised_to_start_from_it(workspace):
    (workspace.runs / "mine" / "bundle").mkdir(parents=True)
    reason = refusal(init(workspace, "--student", "mine"))
    assert reason.startswith("'mine' is a finished job, not the name of a network")
    assert reason.endswith('write from = "mine" in [student] instead of backbone')

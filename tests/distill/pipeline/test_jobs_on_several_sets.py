"""Jobs whose ``data.train`` is a list of sets: refused lists, and a whole job."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_job import ARCFACE, make_workspace, network_text, run_job, stage_text, teacher_text

import teachers
from curation.conversion.convert import convert
from curation.errors import UserError
from curation.images import encode_jpeg
from curation.records.layout_writer import write_layout
from curation.view_writing import write_subset
from curation.views import open_images
from distill.pipeline.fit import check_fit, check_job
from distill.spec_text import SpecFile, parse_spec
from tests.conftest import draw

STREET = '{ set = "street/all", labels = false }'
BOTH = f'[{{ set = "drawn/train" }}, {STREET}]'
LABELS_ONLY = stage_text(ARCFACE)
GUIDED = stage_text(f"{ARCFACE}, angular = {{}}")
MINE = teacher_text()


@pytest.fixture
def workspace(tmp_path, drawn_store, drawn_folder):
    """With the drawn images, and those of five others as street/all."""
    place = make_workspace(tmp_path / "workspace", drawn_store, drawn_folder)
    faces = [(encode_jpeg(draw(20 + who, i)), who) for who in range(5) for i in range(4)]
    write_layout(tmp_path / "street", faces, (48, 48))
    convert(tmp_path / "street", place.datasets / "street" / "all.lmdb")
    return place


def text(train, *tables, name="several", evaluate='["pairs"]'):
    lines = [
        f'name = "{name}"',
        f"data = {{ train = {train}, evaluate = {evaluate} }}",
        f"student = {network_text()}",
        "train = { batch_size = 12 }",
    ]
    return "\n".join([*lines, *tables])


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ('"drawn"', "data.train: 'drawn' is not DATASET/NAME"),
        ("3", 'data.train: must name a set of images, such as "ms1m/clean", or be a list of'),
        ('{ set = "a/b" }', "data.train: must name a set of images"),
        ("[]", "data.train: must not be empty"),
        ('["a/b"]', "data.train 1: must be a table, { KEY = VALUE }, with the keys set, "),
        ("[{ share = 0.5 }]", "data.train 1: 'set' is missing"),
        ('[{ set = "a/b", shares = 0.5 }]', "unknown key 'shares' (allowed here: set, share"),
        ('[{ set = "a/b", share = 0 }]', "data.train 1: share: must be above 0, got 0"),
        ('[{ set = "a/b", share = "x" }]', "data.train 1: share: must be a number"),
        ('[{ set = "a/b", share = 0.5 }, { set = "a/c" }]', "give every set a share"),
        (
            '[{ set = "a/b", share = 0.5 }, { set = "a/c", share = 0.4 }]',
            "data.train: the shares 0.5 + 0.4 are 0.9 together; they must add up to 1",
        ),
        ('[{ set = "a/b" }, { set = "a/b" }]', "data.train: 'a/b' is listed twice"),
    ],
)
def test_an_invalid_list_is_reported_with_its_place(train, said):
    with pytest.raises(UserError) as error:
        SpecFile.parse(text(train, LABELS_ONLY), "spec.toml")
    assert str(error.value).startswith("spec.toml:2:")
    assert said in str(error.value)


def refusal(workspace, train, *tables):
    with pytest.raises(UserError) as error:
        check_job(SpecFile.parse(text(train, *tables, evaluate="[]"), "spec.toml"), workspace)
    return str(error.value)


def test_a_missing_set_is_reported_with_its_place(workspace):
    train = '[{ set = "drawn/train" }, { set = "street/al" }]'
    said = refusal(workspace, train, LABELS_ONLY)
    assert "data.train 2: set: data set 'street/al' is not in the workspace" in said
    assert "street/all" in said


def test_losses_that_need_labels_refuse_a_training_without_any(workspace):
    said = refusal(workspace, f"[{STREET}]", MINE, GUIDED)
    assert "teacher.stage.losses.arcface: arcface needs identities, and no image of data" in said
    said = refusal(workspace, f"[{STREET}]", LABELS_ONLY)
    assert (
        "stage 1: losses.arcface: arcface needs identities, and no image of data.train has " in said
    )
    assert "such as angular, or add a labelled set" in said


def test_images_from_which_nothing_is_learned_are_reported(workspace):
    fit = check_fit(parse_spec(text(BOTH, LABELS_ONLY), "spec"), workspace)
    assert any("learns anything from the 20 images" in notice.text for notice in fit.notices)
    guided = check_fit(parse_spec(text(BOTH, MINE, GUIDED), "spec"), workspace)
    told = [notice.text for notice in guided.notices if "20 images" in notice.text]
    assert len(told) == 1  # about the teacher trained here, whose only loss needs labels
    assert fit.data.keys() == {"drawn/train", "street/all", "pairs"}


def test_a_job_learns_from_two_sets_and_says_so(workspace):
    steps = run_job(workspace, text(BOTH, MINE, GUIDED))
    assert set(steps.values()) == {"done"}
    run = workspace.runs / "several"
    lineage = json.loads((run / "bundle" / "lineage.json").read_text())
    sets = {each["set"]: each for each in lineage["images"]["sets"]}
    street = open_images(workspace.image_set("street/all"))
    assert sets["street/all"] == {
        "set": "street/all",
        "share": None,
        "labels": False,
        "digest": street.digest,
    }
    assert lineage["images"]["name"] == "drawn/train + street/all"
    caches = [path for path in workspace.cache.iterdir() if (path / "unit.npy").exists()]
    assert {np.load(path / "unit.npy").shape[0] for path in caches} == {48, 20}


def test_a_list_of_one_set_is_that_set(workspace):
    tables = [stage_text(ARCFACE)]
    assert set(run_job(workspace, text('"drawn/train"', *tables)).values()) == {"done"}
    steps = run_job(workspace, text('[{ set = "drawn/train" }]', *tables, name="again"))
    assert steps["generation 1"] == steps["evaluate"] == "reused"


def test_evaluation_sets_are_next_to_the_first_set(workspace):
    train = open_images(workspace.image_set("drawn/train"))
    write_subset(workspace.datasets / "street" / "some.view", train, train.labels < 2, "some", {})
    shutil.copy(workspace.datasets / "drawn" / "pairs.bin", workspace.datasets / "street" / "p.bin")
    both = '[{ set = "street/all" }, { set = "drawn/train" }]'
    spec = parse_spec(text(both, LABELS_ONLY, evaluate='["p", "some"]'), "spec")
    told = [notice.text for notice in check_fit(spec, workspace).notices]
    assert any("16 of the 16 images of data.evaluate 'some' are images of" in each for each in told)


def test_a_student_learns_from_a_set_without_any_label(workspace, drawn_folder):
    convert(drawn_folder, workspace.datasets / "street" / "unknown.lmdb", unlabelled=True)
    workspace.teachers.mkdir()
    shutil.copy(Path(teachers.__path__[0]) / "drawn_faces.onnx", workspace.teachers)
    teacher = (
        '[teacher]\nfrom = "drawn_faces.onnx"\nleast_accuracy = 0.0\n'
        'preprocessing = { colour = "RGB", mean = 127.5, std = 127.5, size = [64, 64] }'
    )
    learn = stage_text("angular = { project = true }, relational_distance = {}")
    spec = text('"street/unknown"', teacher, learn, evaluate="[]")
    assert set(run_job(workspace, spec).values()) == {"done"}

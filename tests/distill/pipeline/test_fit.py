"""Checks at submission of what is on disk: impossible jobs, and settings without effect."""

import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.pairs import read_pairs
from curation.store import Store
from curation.view_writing import write_subset
from curation.workspace import Workspace
from distill.daemon.check import spec_check
from distill.pipeline.fit import check_job
from distill.spec_text import SpecFile
from teachers import embeddings
from teachers.embedder import TorchEmbedder
from teachers.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, drawn_store, drawn_folder):
    """``d/train`` has 6 identities of 8 images, ``d/one`` one of them, ``d/singles`` one
    image of each, ``d/tail`` two of the first three and one of the others."""
    workspace = Workspace(tmp_path_factory.mktemp("fit") / "workspace")
    folder = workspace.datasets / "d"
    shutil.copytree(drawn_store.path, folder / "train.lmdb")
    shutil.copy(drawn_folder / "pairs.bin", folder)
    store = Store(folder / "train.lmdb")
    first = np.zeros(len(store), bool)
    first[store.offsets[:-1]] = True
    write_subset(folder / "one.view", store, store.labels == 0, "keep", {})
    write_subset(folder / "singles.view", store, first, "keep", {})
    first[store.offsets[:3] + 1] = True
    write_subset(folder / "tail.view", store, first, "keep", {})
    return workspace


SPEC = """
name = "x"
[data]
train = "d/{data}"
evaluate = [{evaluate}]
{teacher}
[student]
backbone = "{backbone}"
input_size = [32, 32]
embedding = 16
[[stage]]
epochs = 1
losses = {{ {losses} }}
{stage}
[train]
batch_size = {batch}
{train}
"""
TEACHER = """
[teacher.network]
backbone = "mobilefacenet"
input_size = [32, 32]
embedding = 16
[teacher.stage]
epochs = 1
losses = { arcface = {} }
[teacher.train]
batch_size = 8
"""
USUAL = {
    "data": "train", "teacher": "", "backbone": "mobilefacenet", "losses": "arcface = {}",
    "stage": "", "batch": 8, "train": "", "evaluate": "",
}  # fmt: skip


def pk(images, least=1):
    return f'sampler = {{ kind = "pk", images = {images}, least_images = {least} }}'


def check(workspace, **changed):
    text = SPEC.format(**{**USUAL, **changed})
    return [notice.text for notice in check_job(SpecFile.parse(text), workspace).notices]


@pytest.mark.parametrize(
    "sound",
    [
        {},
        {"losses": "arcface = {}, triplet = {}", "stage": pk(2)},
        {"losses": "angular = {}, relational_angle = {}", "teacher": TEACHER},
        {"losses": "center = {}, intra = {}", "data": "one"},
        {"backbone": "edgeface_xxs", "batch": 1},
        {"batch": 48},
    ],
)
def test_a_sound_job_has_no_warnings(workspace, sound):
    assert check(workspace, **sound) == []


@pytest.mark.parametrize(
    ("missing", "format", "message"),
    [
        ("pnnx", "ncnn", r"ncnn format .*pip install 'face-distill\[ncnn\]'"),
        (None, "inspireface", "512 dimensions; this one has 32x32 and 16"),
    ],
    ids=["not installed", "another size"],
)
def test_a_format_that_cannot_be_written_is_refused_at_once(
    workspace, monkeypatch, missing, format, message
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else name)
    with pytest.raises(UserError, match=message):
        check(workspace, train=f'[export]\nformats = ["onnx", "{format}"]')


@pytest.mark.parametrize(
    "teacher",
    ['[teacher]\nfrom = "t"', '[[teacher.ensemble]]\nfrom = "t"\n[[teacher.ensemble]]\nfrom = "t"'],
)
def test_a_teacher_that_is_still_to_be_made_is_not_looked_at(workspace, teacher):
    text = SPEC.format(**{**USUAL, "teacher": teacher, "losses": "angular = {}"})
    spec = SpecFile.parse(text)
    assert check_job(spec, workspace, {"t"}).teacher is None
    for coming in ({"other"}, frozenset()):
        with pytest.raises(UserError, match="nor a finished job"):
            check_job(spec, workspace, coming)
    unknown = SpecFile.parse(text.replace("mobilefacenet", "mobilfacenet"))
    with pytest.raises(UserError, match="mobilefacenet"):
        check_job(unknown, workspace, {"t"})


def test_a_student_queued_after_its_teacher_is_accepted(workspace, tmp_path):
    """With the real check, in the command and in the daemon's separate process."""
    place = Workspace(tmp_path / "workspace")
    shutil.copytree(workspace.datasets, place.datasets)
    teacher, student = tmp_path / "t.toml", tmp_path / "s.toml"
    teacher.write_text(SPEC.format(**USUAL).replace('"x"', '"t"'))
    taught = {**USUAL, "losses": "angular = {}", "teacher": '[teacher]\nfrom = "t"'}
    student.write_text(SPEC.format(**taught))

    def distill(*words):
        command = [sys.executable, "-m", "distill.cli.main", *map(str, words)]
        return subprocess.run(
            [*command, "--workspace", str(place.root)], capture_output=True, text=True, check=False
        )

    assert "nor a finished job" in distill("submit", student).stderr
    assert distill("submit", teacher).returncode == 0
    assert spec_check(place)(student.read_text()).warnings == ()
    assert "x: queued, after t\n" in distill("submit", student).stdout
    assert "x: after t, which is queued\n" in distill("status").stdout


@pytest.mark.parametrize(("command", "words"), [("check", "can be run"), ("submit", "x: queued")])
def test_registered_networks_need_no_torch(workspace, tmp_path, command, words):
    losses = "angular = {}, relational_angle = {}"
    spec = SPEC.format(**{**USUAL, "losses": losses, "teacher": TEACHER, "evaluate": '"pairs"'})
    (tmp_path / "x.toml").write_text(spec)
    script = (
        "import resource, sys; from distill.cli.main import main\n"
        "try: main()\n"
        "finally:\n"
        "    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
        "    print('torch' in sys.modules, children < 200_000)"  # kB; git is one
    )
    checked = subprocess.run(
        [sys.executable, "-c", script, command, "x.toml", "--workspace", str(workspace.root)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert checked.stdout.split("\n")[-2:] == ["False True", ""]
    assert words in checked.stdout


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"batch": 49}, [":16:14: train.batch_size: 49 is above 48, the number of images"]),
        ({"batch": 1}, [":16:14: train.batch_size: 1 images", "1 image at a time", "at least 2"]),
        ({"train": "accumulate = 8"}, ["accumulate = 8", "1 image at a time"]),
        ({"train": "ranks = 8\nsync_batch_norm = false"}, ["ranks = 8", "1 image at a time"]),
        ({"backbone": "iresnet18", "batch": 1}, ["1 image at a time"]),
        ({"backbone": "timm/resnet18", "batch": 1}, ["1 image at a time"]),
        ({"train": "ranks = 8\ncentres = { sharded = true }"}, ["6 identities for 8 ranks"]),
        ({"stage": pk(4, least=9)},
         ["stage 1: sampler.least_images: 9 is above 8, the images of the largest"]),
        ({"stage": pk(4), "batch": 32}, ["train.batch_size: 32 images", "up to 24"]),
        ({"stage": pk(4, least=2), "data": "tail"}, ["8 is above 6", "an epoch has no step"]),
        ({"losses": "triplet = {}", "stage": pk(4), "batch": 4},
         ["stage 1: losses: triplet has no effect", "images of two identities", "learn nothing"]),
        ({"losses": "triplet = {}", "data": "singles", "batch": 4},
         ["stage 1: losses: triplet has no effect", "two images of one identity"]),
        ({"losses": "centre_triplet = {}", "stage": pk(4), "batch": 24},
         ["stage 1: losses: centre_triplet has no effect", "each batch holds all 6"]),
        ({"losses": "relational_distance = {}", "teacher": TEACHER, "train": "ranks = 4"},
         ["relates at least 3 images and gets 2"]),
        ({"data": "one"},
         ["stage 1: losses: arcface has no effect", "needs 2 identities and data.train has 1"]),
        ({"teacher": TEACHER, "losses": "teacher_logits = {}, adadistill = {}", "data": "one"},
         ["teacher.stage.losses: arcface has no effect", "2 identities"]),
        ({"teacher": TEACHER.replace("batch_size = 8", "batch_size = 64")},
         [":15:14: teacher.train.batch_size: 64 is above 48"]),
        ({"train": '[export]\nformats = ["onnx-int8"]'},
         ["export.formats: onnx-int8 takes at least 500 training images, and data.train has 48"]),
        ({"teacher": TEACHER.replace("batch_size = 8", "batch_size = 1")},
         ["teacher.train.batch_size: 1 images", "1 image at a time"]),
    ],
)  # fmt: skip
def test_an_impossible_setting_is_one_line_with_the_key(workspace, changed, words):
    with pytest.raises(UserError) as error:
        check(workspace, **changed)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"data": "one", "losses": "arcface = {}, center = {}"},
         ["stage 1: losses.arcface has no effect", "2 identities"]),
        ({"losses": "arcface = {}, triplet = {}", "batch": 4},
         ["stage 1: losses.triplet will often have no effect", 'kind = "pk"']),
        ({"losses": "arcface = {}, relational_angle = {}", "teacher": TEACHER, "batch": 4,
          "train": "accumulate = 2\nranks = 1"},
         ["2 images at a time and makes each value +1 or -1"]),
        ({"losses": "arcface = {}, relational_angle = {}", "teacher": TEACHER, "batch": 8,
          "train": "ranks = 4"},
         ["stage 1: losses.relational_angle has no effect", "gets 2 at a time"]),
        ({"train": "learning_rate = 1e-5"}, ["train.learning_rate is 1e-05", "rises to the end"]),
        ({"teacher": TEACHER}, ["no loss of any stage uses the [teacher]"]),
    ],
)  # fmt: skip
def test_settings_without_effect_are_reported_first(workspace, changed, words):
    said = check(workspace, **changed)
    for word in words:
        assert any(word in text for text in said), said


def test_a_disk_without_room_for_embeddings_is_found_first(
    workspace, drawn_store, small_network, monkeypatch
):
    teacher = TorchEmbedder(small_network, Preprocessing.ours((32, 32)), "a" * 64)
    embeddings.check_room(teacher, drawn_store, workspace.cache)
    usage = shutil.disk_usage(workspace.root)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"embeddings of 48 images take .* free some space"):
        embeddings.check_room(teacher, drawn_store, workspace.cache)


def with_images(workspace, change):
    """Writes d/odd.bin: the images and labels of d/pairs.bin, after ``change``."""
    pairs = read_pairs(workspace.datasets / "d" / "pairs.bin")
    content = change(list(pairs.images), pairs.same.tolist())
    (workspace.datasets / "d" / "odd.bin").write_bytes(pickle.dumps(content, protocol=4))


def replaced(number, image):
    def change(images, same):
        images[number] = image(images[number])
        return images, same

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replaced(7, lambda image: b""), "image 7 .* it is empty"),
        (replaced(7, lambda image: image[: len(image) // 3]), "image 7"),
        (replaced(9, lambda image: b"GIF89a" + image), "image 9"),
        (
            lambda images, same: (images[:-1], same),
            "79 images, but two are needed for each of 40 pairs",
        ),
        (lambda images, same: ([], []), "0 images"),
        (lambda images, same: (images[:10], same[:5]), "nothing can be measured"),
        (lambda images, same: (images, [True] * 40), "nothing can be measured"),
        (lambda images, same: (images[:1] * 80, same), "are all the same file"),
        (lambda images, same: {"images": images}, "refused as a verification set"),
    ],
    ids=["empty", "cut", "no picture", "odd", "none", "five", "genuine", "one file", "no set"],
)
def test_a_set_that_cannot_be_scored_is_refused_first(workspace, change, words):
    with_images(workspace, change)
    with pytest.raises(UserError, match=rf"data\.evaluate 2: 'odd': .*{words}") as error:
        check(workspace, evaluate='"pairs", "odd"')
    assert "\n" not in str(error.value)


def test_a_store_whose_images_cannot_be_decoded_is_refused_first(workspace, drawn_store):
    damaged = drawn_store.read(5)
    damaged = damaged[: len(damaged) // 2]
    folder = workspace.root / "faces"
    for number in range(4):
        path = folder / f"{number // 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damaged if number == 2 else drawn_store.read(number))
    convert(folder, workspace.datasets / "d" / "cut.lmdb")
    with pytest.raises(UserError, match=r"data\.evaluate 1: 'cut': .*image 2 is damaged"):
        check(workspace, evaluate='"cut"')


def test_two_sets_of_one_name_are_refused_first(workspace):
    other = workspace.datasets / "e"
    other.mkdir(exist_ok=True)
    shutil.copy(workspace.datasets / "d" / "pairs.bin", other)
    with pytest.raises(UserError, match=r"'pairs' and 'e/pairs' are both called 'pairs'"):
        check(workspace, evaluate='"pairs", "e/pairs"')


def test_sets_that_share_images_with_the_training_are_reported(workspace):
    store = Store(workspace.datasets / "d" / "train.lmdb")
    with_images(workspace, replaced(3, lambda image: store.read(20)))
    [said] = check(workspace, evaluate='"pairs", "odd"')
    assert "1 of the 80 images of data.evaluate 'odd' are images of data.train 'd/train'" in said
    [said] = check(workspace, evaluate='"singles"')
    assert "6 of the 6 images of data.evaluate 'singles'" in said
    assert check(workspace, data="one", losses="center = {}", evaluate='"pairs", "odd"') == []

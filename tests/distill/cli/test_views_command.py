"""`distill views`: augmented views of a job's images on one sheet."""

import json
import shutil

import cv2
import numpy as np
import pytest
from small_job import ARCFACE, job_text, make_workspace, network_text, stage_text, teacher_text
from small_training import make_network
from typer.testing import CliRunner

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.images import decode, encode_jpeg
from curation.records.layout_writer import write_layout
from curation.views import open_images
from curation.workspace import Workspace
from distill.cli.main import app
from distill.pipeline.view_sheet import make_sheet
from distill.training.augment import AugmentSettings
from distill.training.views import PLAIN
from teachers.augment.augmentation import Augmentation
from teachers.embedder import TorchEmbedder, module_digest, normalise
from teachers.preprocessing import Preprocessing
from tests.conftest import draw

LEARN = stage_text(f"{ARCFACE}, angular = {{}}")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, drawn_store, drawn_folder):
    return make_workspace(tmp_path_factory.mktemp("workspace"), drawn_store, drawn_folder)


@pytest.fixture(scope="module")
def teacher():
    network = make_network(seed=7)
    return TorchEmbedder(network, Preprocessing.ours((32, 32)), module_digest(network))


def views(workspace, folder, *tables, sheet="views.png", more=()):
    spec = folder / "job.toml"
    spec.write_text(job_text("job", *tables, student=network_text(size=(48, 48))))
    given = ["views", str(spec), "--sheet", str(folder / sheet), "--workspace", str(workspace.root)]
    return CliRunner().invoke(app, [*given, *more])


def test_the_sheet_shows_the_image_and_its_views(drawn_store):
    settings = AugmentSettings(views=6)
    sheet = make_sheet(settings, drawn_store, Preprocessing.ours((48, 48)), None, [3, 9], 10)
    width = 60  # of a cell: the width of a caption
    assert sheet.picture.shape == (2 * (48 + 15 + 6) - 6, 5 * (width + 6) - 6, 3)
    plain = sheet.picture[:48, 6:54]
    np.testing.assert_array_equal(plain, decode(drawn_store.read(3)))
    change = Augmentation(settings.strengths, drawn_store).changes(np.array([9]), np.array([1]))[0]
    augmentation = Augmentation(settings.strengths, drawn_store)
    top, left = 48 + 15 + 6, 2 * (width + 6) + 6
    np.testing.assert_array_equal(
        sheet.picture[top : top + 48, left : left + 48],
        augmentation.view(decode(drawn_store.read(9)), change),
    )
    assert [view.number for view in sheet.views] == [PLAIN, 0, 1, 2, 3] * 2


def test_cosines_compare_with_the_plain_image(drawn_store, teacher):
    settings = AugmentSettings(views=6, mix=0.3, least_cosine=0.99)
    sheet = make_sheet(settings, drawn_store, Preprocessing.ours((48, 48)), teacher, [5], 4)
    augmentation = Augmentation(settings.strengths, drawn_store)
    changes = augmentation.changes(np.full(4, 5), np.arange(4))
    picture = decode(drawn_store.read(5))
    for view, change in zip(sheet.views[1:], changes, strict=True):
        plain = np.ascontiguousarray(picture[:, ::-1]) if view.mirrored else picture
        pair = normalise(teacher.embed(np.stack([augmentation.view(picture, change), plain])))
        assert view.cosine == pytest.approx(float(pair[0] @ pair[1]), abs=1e-3)
        assert view.used == (view.mixed or view.cosine >= 0.99)
    # The teacher's input size differs from the student's, so that both are shown.
    assert sheet.picture.shape[0] == 48 + 32 + 15


def test_an_untrained_teacher_shows_no_cosines(workspace, tmp_path):
    tables = teacher_text(), LEARN, "[augment]\nviews = 8\n"
    done = views(workspace, tmp_path, *tables, more=["--json", "--images", "2", "--views", "3"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["augmented"], told["median_cosine"]) == (6, None)
    assert cv2.imread(str(tmp_path / "views.png")) is not None


@pytest.mark.parametrize(
    ("augment", "sheet", "words"),
    [
        ("", "views.png", "add [augment] with views = 16"),
        ("views = 8", "views.jpg", "end its name"),
        ("views = 8", "missing/views.png", "missing"),
    ],
)
def test_an_impossible_sheet_is_refused_in_one_line(workspace, tmp_path, augment, sheet, words):
    table = f"[augment]\n{augment}\n" if augment else ""
    done = views(workspace, tmp_path, teacher_text(), LEARN, table, sheet=sheet)
    assert done.exit_code == 1
    assert words in str(done.exception)


def test_images_that_show_too_little_are_refused_at_the_key(tmp_path):
    faces = [(encode_jpeg(draw(person, 0)[:, 12:36].copy()), person) for person in range(4)]
    write_layout(tmp_path / "records", faces, (48, 24))
    convert(tmp_path / "records", tmp_path / "datasets" / "drawn" / "train.lmdb")
    done = views(Workspace(tmp_path), tmp_path, stage_text(), "[augment]\nviews = 8\n")
    assert done.exit_code == 1
    told = str(done.exception)
    assert told.startswith(f"{tmp_path / 'job.toml'}:")
    assert "student.input_size: data.train 'drawn/train': images of 48x24 pixels show less" in told


def test_a_sheet_of_too_many_cells_is_refused(drawn_store):
    settings, chosen = AugmentSettings(views="fresh"), [0] * 200
    with pytest.raises(UserError, match="200 images with 10 views each are 2,200 cells"):
        make_sheet(settings, drawn_store, Preprocessing.ours((48, 48)), None, chosen, 10)


def test_a_damaged_image_is_named(drawn_store, tmp_path):
    shutil.copytree(drawn_store.path, tmp_path / "train.lmdb")
    data, file = tmp_path / "train.lmdb" / "data.mdb", bytes(drawn_store.read(7))
    data.write_bytes(data.read_bytes().replace(file, bytes(len(file))))
    settings, damaged = AugmentSettings(views=4), open_images(tmp_path / "train.lmdb")
    with pytest.raises(UserError, match=r"train.lmdb: image 7 \(key .*curate verify"):
        make_sheet(settings, damaged, Preprocessing.ours((48, 48)), None, [7], 2)

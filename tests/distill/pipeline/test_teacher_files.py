"""Teachers by name: weights of known networks, timm's, jobs, and ensembles."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from curation.errors import UserError
from curation.noise.embedded import TeacherChoice
from curation.workspace import Workspace
from distill.backbones import create
from distill.cli.curate.set_embedder import open_embedder
from distill.export.bundle_files import check_bundle
from distill.network_spec import NetworkSpec, TeacherSpec
from distill.pipeline.teacher_files import is_bundle, open_spec_teacher, open_teacher
from distill.spec_errors import SpecError
from distill.spec_text import parse_spec
from teachers import checkpoints
from teachers.embedder import TorchEmbedder
from teachers.preprocessing import Preprocessing
from tests.distill.daemon.test_daemon_delivery import make_bundle

SIZE = (32, 32)
HEAD = 'name = "try"\ndata = { train = "drawn/train" }\n'
STUDENT = """
[student]
backbone = "mobilefacenet"
[[stage]]
epochs = 1
losses = { angular = {} }
"""
SMALL = 'backbone = "adaface_ir18"\nembedding = 8\nwidth = 0.125\n'
PIXELS = 'preprocessing = { colour = "BGR", mean = 127.5, std = 127.5, size = [32, 32] }\n'


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "teachers").mkdir()
    return Workspace(tmp_path)


@pytest.fixture(autouse=True)
def small_registry(monkeypatch):
    """Few names to search when weights are recognised."""
    kept = {name: checkpoints.NETWORKS[name] for name in ("mobilefacenet", "iresnet18")}
    monkeypatch.setattr(checkpoints, "NETWORKS", kept)


def network(name="adaface_ir18", seed=0, embedding=8):
    torch.manual_seed(seed)
    return create(name, embedding=embedding, input_size=SIZE, width=0.125).eval()


def pictures():
    return np.random.default_rng(0).integers(0, 255, (3, 40, 40, 3), dtype=np.uint8)


def teacher_spec(text):
    spec = parse_spec(HEAD + text + STUDENT, "job.toml").teacher
    assert spec is not None
    return spec


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".safetensors"])
def test_a_file_of_weights_is_a_teacher(workspace, suffix):
    path = workspace.teachers / f"big{suffix}"
    if suffix == ".safetensors":
        save_file(network().state_dict(), path)
    else:
        torch.save({"state_dict": network().state_dict(), "epoch": 20}, path)
    spec = teacher_spec(f'[teacher]\nfrom = "{path.name}"\n{SMALL}{PIXELS}')
    teacher = open_spec_teacher(spec, workspace)
    expected = TorchEmbedder(
        network(), Preprocessing(colour="BGR", mean=127.5, std=127.5, size=SIZE), "x"
    )
    assert teacher.embedding == 8
    assert np.array_equal(teacher.embed(pictures()), expected.embed(pictures()))


def test_timms_own_network_is_a_teacher(tmp_path):
    """Its last layer computes the embedding."""
    torch.manual_seed(0)
    theirs = timm.create_model("mobilenetv3_small_050", num_classes=8).eval()
    torch.save(theirs.state_dict(), tmp_path / "mobile.pth")
    spec = NetworkSpec(backbone="timm/mobilenetv3_small_050", embedding=8)
    preprocessing = Preprocessing.ours(SIZE)
    teacher = open_teacher(tmp_path / "mobile.pth", preprocessing, spec)
    expected = TorchEmbedder(theirs, preprocessing, "x")
    assert np.array_equal(teacher.embed(pictures()), expected.embed(pictures()))


def test_a_missing_backbone_is_recognised_but_not_assumed(workspace):
    torch.save(create("mobilefacenet").state_dict(), workspace.teachers / "small.pth")
    spec = teacher_spec(f'[teacher]\nfrom = "small.pth"\n{PIXELS}')
    with pytest.raises(
        UserError, match='these are the keys of mobilefacenet: give backbone = "mobilefacenet"'
    ):
        open_spec_teacher(spec, workspace)


def test_unknown_keys_are_reported(workspace):
    torch.save({"weight": torch.zeros(3)}, workspace.teachers / "odd.pth")
    spec = teacher_spec(f'[teacher]\nfrom = "odd.pth"\n{PIXELS}')
    with pytest.raises(
        UserError,
        match=r"backbone = \.\.\.; .*no registered network has these "
        r"keys",
    ):
        open_spec_teacher(spec, workspace)


def test_the_wrong_backbone_is_refused(workspace):
    torch.save(network().state_dict(), workspace.teachers / "big.pth")
    wrong = SMALL.replace("adaface_ir18", "iresnet18")
    spec = teacher_spec(f'[teacher]\nfrom = "big.pth"\n{wrong}{PIXELS}')
    with pytest.raises(UserError, match="not weights of this IResNet"):
        open_spec_teacher(spec, workspace)


@pytest.mark.parametrize(
    ("backbone", "offered"),
    [
        ("iresnet100", "insightface's torch networks take RGB, mean 127.5, std 127.5"),
        ("adaface_ir101", "AdaFace's networks take BGR, .*; CVLface's .* take RGB, mean 127.5"),
        ("treb1en_ir_se50", "TreB1eN's networks take BGR"),
        ("mobilefacenet", "insightface's .*; AdaFace's .*; TreB1eN's"),
    ],
)
def test_preprocessing_is_never_guessed_but_the_usual_is_offered(backbone, offered):
    with pytest.raises(UserError, match=f"teacher.from: preprocessing belongs to .*{offered}"):
        teacher_spec(f'[teacher]\nfrom = "big.pth"\nbackbone = "{backbone}"\n')


@pytest.mark.parametrize("source", ["big.pth", "big.onnx"])
@pytest.mark.parametrize("table", ["teacher", "[teacher.ensemble]"])
@pytest.mark.parametrize(
    ("said", "unsaid"),
    [
        ('colour = "RGB", size = [112, 112]', "mean and std are"),
        ('colour = "RGB", mean = 0.0', "std is"),
        ("std = 1.0", "colour and mean are"),
        ("size = [112, 112]", "colour, mean and std are"),
        ("", "colour, mean and std are"),
    ],
)
def test_a_named_file_needs_colour_mean_and_std(table, source, said, unsaid):
    with pytest.raises(
        UserError, match=f"preprocessing: {unsaid} missing; give the network's .* 127.5"
    ):
        teacher_spec(f'[{table}]\nfrom = "{source}"\npreprocessing = {{ {said} }}')


@pytest.mark.parametrize(
    ("said", "unsaid"),
    [
        ({}, "--colour, --mean and --std are"),
        ({"mean": 127.5}, "--colour and --std are"),
        ({"mean": 127.5, "std": 128.0}, "--colour is"),
    ],
)
def test_curate_names_the_required_options(workspace, said, unsaid):
    (workspace.teachers / "big.onnx").write_bytes(b"x")
    with pytest.raises(
        UserError, match=f"big.onnx: {unsaid} missing; give the network's preprocessing"
    ):
        open_embedder(TeacherChoice(name="big.onnx", **said), workspace)


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (f'from = "job"\n{SMALL}', "backbone: only with from = a file of"),
        (f'from = "big.onnx"\nwidth = 0.5\n{PIXELS}', "width: only with from"),
        (f'from = "big.onnx"\npart = "model_ema"\n{PIXELS}', "part: only with from"),
        (f'from = "big.pth"\noutput = "fc1"\n{PIXELS}', "output: only with from = an .onnx"),
        ('from = "job"\ncombine = "average"', "combine: it combines the members of a"),
        ('from = "job"\n[[teacher.ensemble]]\nfrom = "other"', "give one of from"),
        ("[[teacher.ensemble]]", 'each .* needs from = "..."'),
        ('[[teacher.ensemble]]\nfrm = "a"', "ensemble 1: unknown key 'frm' .*from, backbone"),
        ('[[teacher.ensemble]]\nfrom = "a.onnx"', "ensemble 1: from: preprocessing belongs to"),
        ('combine = "sum"\n[[teacher.ensemble]]\nfrom = "a"', "combine: .*'concatenate' or"),
    ],
)  # fmt: skip
def test_keys_that_do_not_go_together_are_refused(teacher, words):
    with pytest.raises(UserError, match=words):
        teacher_spec(f"[teacher]\n{teacher}")


def test_other_weights_and_preprocessings_are_other_teachers(tmp_path):
    path = tmp_path / "big.pth"
    seen = set()
    for seed, size, width in [(0, SIZE, 0.125), (1, SIZE, 0.125), (0, SIZE, 0.25)]:
        torch.manual_seed(seed)
        torch.save(create("mobilefacenet", 8, size, width).state_dict(), path)
        spec = NetworkSpec(backbone="mobilefacenet", embedding=8, width=width)
        seen.add(open_teacher(path, Preprocessing.ours(size), spec).digest)
    again = {"state_dict": {f"module.{key}": v for key, v in torch.load(path).items()}}
    torch.save(again, path)
    assert len(seen) == 3
    assert open_teacher(path, Preprocessing.ours(size), spec).digest in seen  # wrapped, the same


def test_an_average_of_different_lengths_names_the_key(workspace):
    torch.save(network().state_dict(), workspace.teachers / "8.pth")
    torch.save(network(embedding=16).state_dict(), workspace.teachers / "16.pth")
    longer = SMALL.replace("embedding = 8", "embedding = 16")
    members = (
        f'[[teacher.ensemble]]\nfrom = "8.pth"\n{SMALL}{PIXELS}'
        f'[[teacher.ensemble]]\nfrom = "16.pth"\n{longer}{PIXELS}'
    )
    averaged = teacher_spec(f'[teacher]\ncombine = "average"\n{members}')
    with pytest.raises(SpecError, match="have 8, 16") as refused:
        open_spec_teacher(averaged, workspace)
    assert refused.value.location == ("teacher", "combine")


def test_an_ensemble_is_a_teacher(workspace):
    for seed in (1, 2):
        torch.save(network(seed=seed).state_dict(), workspace.teachers / f"{seed}.pth")
    rgb = PIXELS.replace("BGR", "RGB").replace("std = 127.5", "std = 128.0")
    members = (
        f'[[teacher.ensemble]]\nfrom = "1.pth"\n{SMALL}{PIXELS}'
        f'[[teacher.ensemble]]\nfrom = "2.pth"\n{SMALL}{rgb}'
    )
    together = open_spec_teacher(teacher_spec(members), workspace)
    averaged = teacher_spec(f'[teacher]\ncombine = "average"\n{members}')
    between = open_spec_teacher(averaged, workspace)
    assert (together.embedding, between.embedding) == (16, 8)
    assert isinstance(together.embed(pictures()), np.ndarray)
    alone = TorchEmbedder(
        network(seed=2), Preprocessing(colour="RGB", mean=127.5, std=128.0, size=SIZE), "x"
    ).embed(pictures())
    part = together.embed(pictures())[:, 8:]
    cosines = (part * alone).sum(1) / np.linalg.norm(part, axis=1) / np.linalg.norm(alone, axis=1)
    assert cosines.min() > 1 - 1e-5


def test_curate_looks_through_weights_too(workspace, drawn_store):
    torch.save(create("mobilefacenet").state_dict(), workspace.teachers / "small.pth")
    choice = TeacherChoice(
        name="small.pth", backbone="mobilefacenet", colour="RGB", mean=127.5, std=127.5
    )
    embedder = open_embedder(choice, workspace)
    assert embedder.teacher.embedding == 128
    with pytest.raises(
        UserError, match=r"--colour, --mean and --std are missing; .* AdaFace.* BGR"
    ):
        open_embedder(TeacherChoice(name="small.pth", backbone="adaface_ir18"), workspace)
    (workspace.teachers / "big.onnx").write_bytes(b"x")
    wrong = TeacherChoice(name="big.onnx", backbone="iresnet18")
    with pytest.raises(UserError, match="--backbone is for files of weights"):
        open_embedder(wrong, workspace)


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize(
    ("name", "text", "stated"),
    [
        ("model.yaml", "# color_space: RGB\nname: ir18\ncolor_space: 'BGR'\n", "BGR"),
        ("config.json", '{"conf": {"color_space": "BGR", "input_size": [3, 112, 112]}}', "BGR"),
        ("model.yaml", "color_space: RGB\n", "RGB"),
        ("config.json", '{"model": "ir18"}', None),
        ("notes.txt", "color_space: RGB", None),
    ],
)
def test_a_colour_order_stored_with_weights_is_binding(tmp_path, folder, name, text, stated):
    torch.save({"model": network().state_dict()}, tmp_path / "model.pt")
    (tmp_path / name).write_text(text)
    spec = NetworkSpec(backbone="adaface_ir18", embedding=8, width=0.125)
    for colour in ("RGB", "BGR"):
        pixels = Preprocessing(colour=colour, mean=127.5, std=127.5, size=SIZE)
        path = tmp_path if folder else tmp_path / "model.pt"
        if stated in (None, colour):
            assert open_teacher(path, pixels, spec).embedding == 8
        else:
            words = f"{name} (in|beside) it says color_space {stated}, and colour is {colour}; give"
            with pytest.raises(UserError, match=words):
                open_teacher(path, pixels, spec)


def test_a_configuration_of_other_weights_does_not_count(tmp_path):
    for name in ("one.pt", "two.pt"):
        torch.save(network().state_dict(), tmp_path / name)
    (tmp_path / "one.yaml").write_text("color_space: RGB\n")
    spec = NetworkSpec(backbone="adaface_ir18", embedding=8, width=0.125)
    pixels = Preprocessing(colour="BGR", mean=127.5, std=127.5, size=SIZE)
    open_teacher(tmp_path / "two.pt", pixels, spec)
    with pytest.raises(UserError, match=r"one\.yaml beside it"):
        open_teacher(tmp_path / "one.pt", pixels, spec)


def test_a_folder_of_weights_is_a_teacher(workspace):
    folder = workspace.teachers / "hub"
    folder.mkdir()
    save_file(network().state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    spec = teacher_spec(f'[teacher]\nfrom = "hub"\n{SMALL}{PIXELS}')
    assert open_spec_teacher(spec, workspace).embedding == 8
    unsaid = teacher_spec('[teacher]\nfrom = "hub"')
    with pytest.raises(UserError, match="'hub' is in teachers/: colour, mean and std are miss"):
        open_spec_teacher(unsaid, workspace)
    choice = TeacherChoice(name="hub", backbone="adaface_ir18")
    with pytest.raises(UserError, match="hub: --colour, --mean and --std are missing"):
        open_embedder(choice, workspace)


@pytest.mark.parametrize("name", ["SHA256SUMS", "config.json"])
def test_a_damaged_bundle_is_not_taken_for_weights(name: str, tmp_path: Path):
    folder = make_bundle(tmp_path / "bundle")
    (folder / name).unlink()
    (folder / name).mkdir()
    assert is_bundle(folder)
    with pytest.raises(UserError, match=name):
        check_bundle(folder)


def test_preprocessing_of_a_missing_file_is_a_files_alone(workspace):
    spec = teacher_spec(f'[teacher]\nfrom = "job"\n{PIXELS}')
    with pytest.raises(UserError, match=r"no file .*job; put it there \(a finished job knows its"):
        open_spec_teacher(spec, workspace)


def test_a_part_of_a_file_is_chosen(workspace):
    both = {"model": network().state_dict(), "model_ema": network(seed=1).state_dict()}
    torch.save(both, workspace.teachers / "both.pth")
    said = f'[teacher]\nfrom = "both.pth"\n{SMALL}{PIXELS}'
    with pytest.raises(UserError, match="2 times with different weights, as 'model' and"):
        open_spec_teacher(teacher_spec(said), workspace)
    digests = {
        open_spec_teacher(teacher_spec(f'{said}part = "{part}"\n'), workspace).digest
        for part in both
    }
    assert len(digests) == 2


def test_a_teachers_spec_without_anything_is_refused():
    with pytest.raises(ValueError, match="give one of from"):
        TeacherSpec()

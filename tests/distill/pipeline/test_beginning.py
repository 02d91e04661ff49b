"""A student that starts from an existing network: what it copies, freezes and remembers."""

import json
import shutil

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from small_job import ARCFACE, job_text, make_workspace, run_job, stage_text
from typer.testing import CliRunner

from curation.errors import UserError
from curation.images import decode, probe_size
from distill.cli.main import app
from distill.daemon.names import teachers_in
from distill.export.safe_tensors import read_tensors
from distill.pipeline.beginning import SharedKeys, given_beginning
from distill.pipeline.fit import check_fit, check_job, student_architecture
from distill.pipeline.training import CHECKPOINTS, NETWORK, Stage
from distill.spec_text import SpecFile, parse_spec
from teachers.embedder import TorchEmbedder, normalise

WEIGHTS = "old.safetensors"
TIMMS = "mobilenetv3_small_050"
OURS = "{ colour = 'RGB', mean = 127.5, std = 127.5, size = [32, 32] }"
BGR = "{ colour = 'BGR', mean = 127.5, std = 128.0, size = [32, 32] }"
SLOWLY = "log_every = 1, learning_rate = 0.03, clip_gradient_norm = 1.0"
QUICKLY = "log_every = 1, learning_rate = 0.1, clip_gradient_norm = 5.0"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, drawn_store, drawn_folder):
    """With the finished job "old", its bundle, and its weights in teachers/."""
    made = make_workspace(tmp_path_factory.mktemp("workspace"), drawn_store, drawn_folder)
    run_job(made, job_text("old", stage_text(epochs=2)))
    made.teachers.mkdir()
    bundle = made.runs / "old" / "bundle"
    shutil.copytree(bundle, made.teachers / "given")
    shutil.copy(bundle / "model.safetensors", made.teachers / WEIGHTS)
    return made


def spec_text(student, *stages, name="new", **more):
    return job_text(name, *(stages or [stage_text()]), student=f"{{ {student} }}", **more)


def of_weights(preprocessing=OURS, more="", embedding=16):
    return (
        f'from = "{WEIGHTS}", backbone = "mobilefacenet", width = 0.125, embedding = {embedding}, '
        f"preprocessing = {preprocessing}{more}"
    )


def train(workspace, text):
    """The job up to its last training, because the bundle takes longer."""
    return run_job(workspace, text, until="evaluate")


def trained(workspace, name, step="generation-1"):
    return read_tensors(workspace.runs / name / CHECKPOINTS / step / NETWORK)


def refusal(workspace, text):
    """The one-line error, with its place, for a refused spec."""
    with pytest.raises(UserError) as caught:
        check_job(SpecFile.parse(text, "spec.toml"), workspace)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("student", ['from = "old"', 'from = "given"', of_weights()])
def test_it_begins_with_all_weights_of_the_old_network(workspace, student):
    spec = parse_spec(spec_text(student), "spec")
    old = given_beginning(spec.student, workspace)
    network = old.begun(spec.student).build()
    old.take_into(network)
    expected = read_tensors(workspace.teachers / WEIGHTS)
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())
    assert not [each for each in check_fit(spec, workspace).notices if each.key == "beginning"]


def test_the_old_networks_scores_appear_next_to_the_new_ones(workspace):
    run_job(workspace, spec_text('from = "old"', name="scored"))
    networks = json.loads((workspace.runs / "scored" / "evaluation.json").read_text())["networks"]
    assert list(networks) == ["old", "generation 1"]
    lineage = json.loads((workspace.runs / "scored" / "bundle" / "lineage.json").read_text())
    assert lineage["from"]["name"] == "old"


def test_the_body_begins_with_a_file_of_timms_weights(workspace):
    given = timm.create_model(TIMMS, num_classes=16).state_dict()
    save_file(given, workspace.teachers / "timm.safetensors")
    student = of_weights().replace(WEIGHTS, "timm.safetensors").replace("width = 0.125, ", "")
    student = student.replace("mobilefacenet", f"timm/{TIMMS}")
    spec = parse_spec(spec_text(f"{student}, remember = 1.0"), "spec")
    (notice,) = (each for each in check_fit(spec, workspace).notices if each.key == "beginning")
    assert "initialised at random: head." in notice.text
    assert "not used: network.classifier.weight, network.classifier.bias" in notice.text
    old = given_beginning(spec.student, workspace)
    network = old.begun(spec.student).build()
    old.take_into(network)
    body = network.network.state_dict()
    assert body
    assert all(torch.equal(value, given[key]) for key, value in body.items())


@pytest.mark.parametrize("student", ['from = "old", embedding = 24', of_weights(embedding=24)])
def test_another_embedding_width_restarts_the_head_and_says_so(workspace, student):
    spec = parse_spec(spec_text(student), "spec")
    (notice,) = (each for each in check_fit(spec, workspace).notices if each.key == "beginning")
    assert "initialised at random: embedding" in notice.text
    assert "not used: embedding" in notice.text


def test_the_embedding_of_a_file_is_kept_unless_given(workspace):
    unsaid = of_weights().replace("embedding = 16, ", "")
    for student, length in ((unsaid, 16), (of_weights(embedding=24), 24)):
        spec = parse_spec(spec_text(student), "spec").student
        old = given_beginning(spec, workspace)
        assert (old.architecture.embedding, old.begun(spec).embedding) == (16, length)
        assert (
            old.digest
            == given_beginning(
                parse_spec(spec_text(of_weights()), "spec").student, workspace
            ).digest
        )


def test_the_step_says_what_becomes_of_every_key(workspace):
    train(workspace, spec_text('from = "old"', name="told"))
    steps = json.loads((workspace.runs / "told" / "steps.json").read_text())
    total = len(read_tensors(workspace.teachers / WEIGHTS))
    assert steps[0]["note"] == f"student.from: {total} of {total} tensors are loaded"


def test_every_key_is_loaded_fresh_or_unused():
    new = {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(1)}
    old = {"a": torch.zeros(2), "b": torch.zeros(4), "d": torch.zeros(1)}
    assert SharedKeys.of(new, old) == SharedKeys(("a",), ("b", "c"), ("b", "d"))


def test_keys_that_only_one_of_file_and_network_has_are_named(workspace):
    weights = read_tensors(workspace.teachers / WEIGHTS)
    counter = next(key for key in weights if key.endswith("num_batches_tracked"))
    del weights[counter]
    save_file(weights | {"head.weight": torch.zeros(3, 16)}, workspace.teachers / "odd.safetensors")
    spec = parse_spec(spec_text(of_weights().replace(WEIGHTS, "odd.safetensors")), "spec")
    (notice,) = (each for each in check_fit(spec, workspace).notices if each.key == "beginning")
    assert f"{len(weights)} of {len(weights) + 1} tensors are loaded" in notice.text
    assert "not used: head.weight" in notice.text
    assert f"not in the file, so they start at 0: {counter}" in notice.text


@pytest.mark.parametrize(
    ("student", "words"),
    [
        ('from = "olt"', "spec.toml:3:20: student.from: 'olt' is neither a file"),
        (
            'from = "old", backbone = "y2"',
            "backbone: 'y2' differs from the network in student.from, 'mobile",
        ),
        ('from = "old", width = 0.5', "tensors of the student have the name and shape"),
        ('from = "old", embedding = 24, remember = 1.0', "remember: needs the embedding (16)"),
        (of_weights(more=", remember = 1.0", embedding=24), "remember: needs the embedding (16)"),
        ('from = "old", part = "model"', "part: only with from = a file of weights"),
        ('from = "net.onnx"', "from: an ONNX graph cannot be trained"),
        ("embedding = 16", "backbone: is missing; name the network"),
        ('backbone = "mobilefacenet", remember = 1.0', "remember: needs from"),
        (f'from = "{WEIGHTS}", backbone = "mobilefacenet"', "from: preprocessing belongs to"),
        (f'from = "{WEIGHTS}", preprocessing = {OURS}', "backbone: is missing"),
        (of_weights(more=", input_size = [64, 64]"), "input_size: [64, 64] is not the size in"),
        (of_weights("{ size = [32, 32] }"), "student.preprocessing: colour, mean and std are miss"),
        ('from = "../old"', "student.from"),
    ],
)
def test_an_unusable_start_is_refused_at_its_place(workspace, student, words):
    assert words in refusal(workspace, spec_text(student))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('freeze = "body"\nbody_learning_rate = 0.1', "body_learning_rate: has no effect with"),
        ("body_learning_rate = 0", "body_learning_rate"),
        ('freeze = "head"', "freeze"),
    ],
)
def test_a_stage_is_frozen_or_slow(workspace, more, words):
    assert words in refusal(workspace, spec_text('from = "old"', stage_text(more=more)))


def test_a_body_of_random_weights_is_not_frozen(workspace):
    text = job_text("new", stage_text(more='freeze = "body"'))
    assert "stage 1: freeze: the first stage would freeze random weights" in refusal(
        workspace, text
    )


def test_a_body_with_some_random_weights_is_not_frozen(workspace):
    larger = spec_text('from = "old", input_size = [48, 48]', stage_text(more='freeze = "body"'))
    said = refusal(workspace, larger)
    assert "stage 1: freeze: the body would be frozen with random weights: global_dep" in said
    head = spec_text('from = "old", embedding = 24', stage_text(more='freeze = "body"'))
    check_fit(parse_spec(head, "spec"), workspace)


def test_a_frozen_body_stays_and_the_head_learns(workspace):
    frozen = stage_text(more='freeze = "body"')
    train(workspace, spec_text('from = "old"', frozen, name="frozen"))
    before, after = read_tensors(workspace.teachers / WEIGHTS), trained(workspace, "frozen")
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved
    assert all(key.startswith("embedding.") for key in moved)


def test_then_the_body_thaws_at_a_lower_rate(workspace):
    frozen = stage_text(more='freeze = "body"')
    slow = stage_text(more="body_learning_rate = 0.001")
    train(workspace, spec_text('from = "old"', frozen, slow, name="slow"))
    before = read_tensors(workspace.teachers / WEIGHTS)
    first, last = (trained(workspace, "slow", f"generation-1-stage-{n}") for n in (1, 2))
    weights = [key for key in before if before[key].ndim == 4]
    body = [key for key in weights if not key.startswith("embedding.")]

    def step(keys):
        return max(((last[key] - first[key]).norm() / first[key].norm()).item() for key in keys)

    assert all(torch.equal(first[key], before[key]) for key in body)
    assert 0 < step(body) < 0.1 * step(set(weights) - set(body))


def test_remembering_keeps_embeddings_near_the_old_ones(workspace, drawn_store):
    images = np.stack([decode(drawn_store.read(row)) for row in range(24)])
    old = given_beginning(parse_spec(spec_text('from = "old"'), "spec").student, workspace)
    before = normalise(old.embedder().embed(images))

    def nearness(name, remember):
        student = f'from = "old"{remember}'
        train(workspace, spec_text(student, stage_text(epochs=4), name=name, train=QUICKLY))
        network = old.load()
        # The statistics of normalisation follow the images in any case.
        weights = {key: v for key, v in trained(workspace, name).items() if "running" not in key}
        network.load_state_dict(weights, strict=False)
        now = TorchEmbedder(network, old.architecture.preprocessing, "").embed(images)
        return (normalise(now) * before).sum(axis=1).mean()

    held, free = nearness("held", ", remember = 7.0"), nearness("free", "")
    assert held > free + 0.05
    lines = (workspace.runs / "held" / "metrics.jsonl").read_text().splitlines()
    assert any("loss_remember" in json.loads(line) for line in lines)


def test_stopped_it_continues_with_the_same_weights(workspace):
    student, stages = (
        'from = "old", remember = 2.0',
        [
            stage_text(more='freeze = "body"'),
            stage_text(epochs=2, more="body_learning_rate = 0.1"),
        ],
    )
    train(workspace, spec_text(student, *stages, name="whole"))
    expected = trained(workspace, "whole", "generation-1-stage-2")
    for step in (workspace.runs / "whole" / CHECKPOINTS).iterdir():
        shutil.rmtree(step.resolve())
    for until in ("generation 1 stage 1", "generation 1 stage 2", "evaluate"):
        run_job(workspace, spec_text(student, *stages, name="stopped"), until)
    found = trained(workspace, "stopped", "generation-1-stage-2")
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_its_start_is_part_of_its_identity(workspace, drawn_store):
    def inputs(student):
        spec = parse_spec(spec_text(student), "spec")
        old = given_beginning(spec.student, workspace)
        (stage,) = spec.stage
        architecture = student_architecture(spec, None, old)
        remember = spec.student.remember
        step = Stage(architecture, stage.losses, 1, spec.train, old=old, remember=remember)
        return step.inputs(drawn_store, None)

    given = ['from = "old"', of_weights(), 'from = "old", remember = 1.0', of_weights(BGR)]
    first, same, *others = map(inputs, given)
    assert first == same
    assert first["from"]
    assert all(other != first for other in others)
    without = inputs('backbone = "mobilefacenet"')
    assert not {"from", "remember"} & without.keys()
    assert "body_learning_rate" not in without["settings"]


def test_the_pixels_stay_those_that_the_weights_were_trained_on(workspace):
    run_job(workspace, spec_text(of_weights(BGR), name="swapped"))
    config = json.loads((workspace.runs / "swapped" / "bundle" / "config.json").read_text())
    assert config["face"]["preprocessing"]["colour"] == "BGR"
    assert config["face"]["preprocessing"]["std"] == 128.0
    spec = parse_spec(spec_text('from = "swapped"'), "spec")
    assert given_beginning(spec.student, workspace).architecture.preprocessing.colour == "BGR"


def test_a_job_that_is_still_to_make_it_may_be_waited_for(workspace):
    text = spec_text('from = "coming"')
    check_job(SpecFile.parse(text, "spec.toml"), workspace, {"coming"})
    assert teachers_in(text) == ["coming"]


def test_its_augmented_views_have_the_size_of_its_beginning(workspace, tmp_path):
    spec, sheet = tmp_path / "job.toml", tmp_path / "views.png"
    spec.write_text(spec_text('from = "old"', stage_text(), "[augment]\nviews = 4\n"))
    places = ["--sheet", str(sheet), "--workspace", str(workspace.root)]
    done = CliRunner().invoke(app, ["views", str(spec), "--images", "1", *places])
    assert done.exit_code == 0, done.output
    assert probe_size(sheet.read_bytes())[0] == 32 + 15  # with a caption


def test_losses_of_a_teacher_may_guide_it_too(workspace):
    teacher = '[teacher]\nfrom = "old"\nleast_accuracy = 0.0'
    stage = stage_text(f"{ARCFACE}, angular = {{}}")
    train(workspace, spec_text('from = "old", remember = 1.0', stage, teacher, name="taught"))
    lines = (workspace.runs / "taught" / "metrics.jsonl").read_text().splitlines()
    assert any({"loss_remember", "loss_angular"} <= json.loads(line).keys() for line in lines)

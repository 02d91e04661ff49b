"""The training loop learns, resumes bit-identically, and clearly says why it stops."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_training
import torch
from small_training import (
    PREPROCESSING,
    assert_equal_bits,
    make_network,
    make_training,
    watch,
    weights,
)

from curation.errors import UserError
from curation.images import decode
from distill.losses import LossInputs
from distill.training.checkpoints import newest_checkpoint, save_checkpoint
from distill.training.config import TrainSettings
from distill.training.learner import Learner, optimiser
from distill.training.loop import Stopped, train
from distill.training.state_file import STATE
from teachers.embedder import TorchEmbedder, module_digest
from teachers.embeddings import cache_embeddings
from teachers.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def teacher():
    network = make_network(seed=7)
    return TorchEmbedder(network, PREPROCESSING, module_digest(network))


@pytest.fixture(scope="module")
def cache(teacher, drawn_store, tmp_path_factory):
    return cache_embeddings(teacher, drawn_store, tmp_path_factory.mktemp("cache"))


def test_the_loss_falls(drawn_store, tmp_path):
    metrics = []
    train(make_training(drawn_store, epochs=12), tmp_path, watch(metrics))
    first, last = metrics[0]["loss_arcface"], metrics[-1]["loss_arcface"]
    assert last < 0.6 * first


def test_distillation_brings_the_student_near_the_teacher(drawn_store, cache, tmp_path):
    metrics = []
    training = make_training(drawn_store, cache, {"angular": {}}, epochs=12, learning_rate=0.05)
    train(training, tmp_path, watch(metrics))
    assert metrics[-1]["loss_angular"] < 0.5 * metrics[0]["loss_angular"]


@pytest.mark.parametrize("engine", ["torch", "deepspeed"])
@pytest.mark.parametrize("stop_after", [1, 5])
def test_stopped_and_resumed_it_ends_with_the_same_bits(drawn_store, tmp_path, engine, stop_after):
    whole = make_training(drawn_store, engine=engine)
    train(whole, tmp_path / "whole", watch())

    steps = []
    first = make_training(drawn_store, engine=engine)
    with pytest.raises(Stopped):
        train(first, tmp_path / "cut", watch(steps, lambda: len(steps) == stop_after))
    second = make_training(drawn_store, engine=engine)
    train(second, tmp_path / "cut", watch(steps))

    assert [line["iteration"] for line in steps] == list(range(1, 17))
    assert_equal_bits(weights(second), weights(whole))


def test_both_engines_train_alike(drawn_store, tmp_path):
    by_engine = {}
    for engine in ("torch", "deepspeed"):
        training = make_training(drawn_store, engine=engine, epochs=2)
        train(training, tmp_path / engine, watch())
        by_engine[engine] = weights(training)
    assert_equal_bits(by_engine["torch"], by_engine["deepspeed"])


@pytest.mark.parametrize("zero_stage", [1, 2])
def test_deepspeed_resumes_with_its_state_sharded(drawn_store, tmp_path, zero_stage):
    settings = {"engine": "deepspeed", "zero_stage": zero_stage, "epochs": 2}
    whole = make_training(drawn_store, **settings)
    train(whole, tmp_path / "whole", watch())
    steps = []
    cut = make_training(drawn_store, **settings)
    with pytest.raises(Stopped):
        train(cut, tmp_path / "cut", watch(steps, lambda: len(steps) == 3))
    again = make_training(drawn_store, **settings)
    train(again, tmp_path / "cut", watch())
    assert_equal_bits(weights(again), weights(whole))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [sys.argv[3]]
import torch
torch.set_num_threads(1)
from curation.views import open_images
from small_training import (make_training, watch)
from distill.training import loop
training = make_training(open_images(Path(sys.argv[1])))
class Killer(list):
    def append(self, line):
        if line["iteration"] == int(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGKILL)
loop.train(training, Path(sys.argv[2]), watch(Killer()))
"""


@pytest.mark.parametrize("killed_at", [2, 4, 10])
def test_killed_at_any_step_it_resumes_from_the_last_checkpoint(drawn_store, tmp_path, killed_at):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    here = str(Path(small_training.__file__).parent)
    arguments = [str(drawn_store.path), str(tmp_path / "cut"), here, str(killed_at)]
    outcome = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert outcome.returncode == -signal.SIGKILL

    steps, resumed = [], make_training(drawn_store)
    train(resumed, tmp_path / "cut", watch(steps))
    whole = make_training(drawn_store)
    train(whole, tmp_path / "whole", watch())
    torch.set_num_threads(threads)
    assert steps[0]["iteration"] == (killed_at - 1) // 3 * 3 + 1
    assert_equal_bits(weights(resumed), weights(whole))


def test_the_learner_sees_what_the_embedder_sees(drawn_store):
    """One preprocessing in training and in use: colours, mean and size."""
    network = make_network().eval()
    picture = decode(drawn_store.read(0))
    for colour in ("RGB", "BGR"):
        preprocessing = Preprocessing(colour=colour, mean=100.0, std=50.0, size=(32, 32))
        learner = Learner(network, torch.nn.Identity(), preprocessing)
        pixels = torch.from_numpy(preprocessing.resize(picture[None]))
        seen = learner(pixels, torch.zeros(1), None)
        assert isinstance(seen, LossInputs)
        expected = TorchEmbedder(network, preprocessing, "x").embed(picture[None])
        assert np.allclose(seen.embeddings.detach().numpy(), expected, atol=1e-5)


def test_weight_decay_follows_the_papers_groups(drawn_store):
    training = make_training(drawn_store)
    learner = Learner(training.network, training.losses, PREPROCESSING)
    settings = TrainSettings(weight_decay=4e-5, head_weight_decay=4e-4)
    groups = optimiser(learner, settings).param_groups
    names = {id(parameter): name for name, parameter in learner.named_parameters()}
    decay = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    assert decay.keys() == set(names.values())
    assert decay["network.stem.0.weight"] == 4e-5
    assert decay["network.global_depthwise.0.weight"] == 4e-5
    assert decay["network.embedding.0.weight"] == 4e-4
    assert {rate for name, rate in decay.items() if name.startswith("losses.")} == {4e-4}
    assert decay["network.embedding.1.weight"] == 0  # a norm's scale
    assert decay["network.stem.2.weight"] == 0  # PReLU's slope


def test_without_its_own_rate_the_head_decays_like_the_rest(drawn_store):
    training = make_training(drawn_store)
    learner = Learner(training.network, training.losses, PREPROCESSING)
    groups = optimiser(learner, TrainSettings(weight_decay=3e-4)).param_groups
    assert {group["weight_decay"] for group in groups} == {3e-4, 0.0}


def test_a_batch_larger_than_the_data_set_is_refused(drawn_store, tmp_path):
    with pytest.raises(UserError, match=r"batch_size: 100 is above 48"):
        train(make_training(drawn_store, batch_size=100), tmp_path, watch())


def test_divergence_is_reported_and_not_saved(drawn_store, tmp_path):
    training = make_training(drawn_store, learning_rate=1e30, warmup=0.0)
    with pytest.raises(UserError, match=r"not finite at step .*learning_rate"):
        train(training, tmp_path / "checkpoints", watch())
    assert newest_checkpoint(tmp_path / "checkpoints") is None


def test_a_damaged_checkpoint_gives_way_to_the_previous_one(tmp_path):
    for step in (5, 10):
        save_checkpoint(tmp_path, step, lambda folder: (folder / "w").write_text("weights"))
    (tmp_path / "step-00000010" / "w").write_text("wrights")
    assert newest_checkpoint(tmp_path) == tmp_path / "step-00000005"
    assert (tmp_path / "damaged-step-00000010").is_dir()


def test_a_step_that_was_damaged_before_is_set_aside_again(tmp_path):
    for _ in range(3):
        save_checkpoint(tmp_path, 10, lambda folder: (folder / "w").write_text("weights"))
        (tmp_path / "step-00000010" / "w").write_text("wrights")
        assert newest_checkpoint(tmp_path) is None
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"damaged-step-00000010{end}" for end in ("", "-2", "-3")]


def sign(checkpoint):
    """Make the manifest match: whoever changes the weights can change it too."""
    sums = {STATE: hashlib.sha256((checkpoint / STATE).read_bytes()).hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps(sums))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.unlink(), "does not fit its manifest"),
        (lambda path: (path.unlink(), path.mkdir()), "does not fit its manifest"),
    ],
    ids=["cut", "empty", "missing", "folder"],
)
def test_a_state_that_cannot_be_read_is_set_aside_in_a_line(drawn_store, tmp_path, spoil, words):
    train(make_training(drawn_store), tmp_path, watch())
    newest = newest_checkpoint(tmp_path)
    spoil(newest / STATE)
    if (newest / STATE).is_file():
        sign(newest)
    said = []
    train(make_training(drawn_store), tmp_path, replace(watch(), warn=said.append))
    (notice,) = said
    assert f"set aside as {tmp_path / f'damaged-{newest.name}'}" in notice.text
    assert words in notice.text
    assert "\n" not in notice.text
    assert newest_checkpoint(tmp_path) == newest


@pytest.mark.parametrize(
    "state",
    [
        {},
        [],
        {"engine": {}, "loop": {}},
        {"engine": {"learner": {"a": torch.zeros(1)}, "optimiser": {}}, "loop": {}},
        {"engine": 3, "loop": None},
    ],
    ids=str,
)
def test_a_state_of_something_else_is_refused_in_a_line(drawn_store, tmp_path, state):
    train(make_training(drawn_store), tmp_path, watch())
    newest = newest_checkpoint(tmp_path)
    torch.save(state, newest / STATE)
    sign(newest)
    with pytest.raises(UserError, match="does not hold the state of this training") as error:
        train(make_training(drawn_store), tmp_path, watch())
    assert "\n" not in str(error.value)


def test_the_newest_checkpoint_has_the_highest_step(tmp_path):
    for step in (99_999_999, 100_000_000, 100_000_001):
        save_checkpoint(tmp_path, step, lambda folder: (folder / "state").write_text("x"))
    assert newest_checkpoint(tmp_path).name == "step-100000001"
    assert not (tmp_path / "step-99999999").exists()


def test_a_checkpoint_that_is_saved_again_is_never_missing(tmp_path, monkeypatch):
    def write(folder):
        (folder / "state").write_text("x")

    save_checkpoint(tmp_path, 1, write)
    remove, left = shutil.rmtree, []

    def watched(path, **how):
        remove(path, **how)
        left.append(newest_checkpoint(tmp_path))  # as after a kill at this moment

    monkeypatch.setattr(shutil, "rmtree", watched)
    save_checkpoint(tmp_path, 1, write, scores={"score": 0.5})
    assert set(left) == {tmp_path / "step-00000001"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "step-00000001"]


def test_the_last_two_checkpoints_are_kept(tmp_path):
    for step in range(1, 6):
        save_checkpoint(tmp_path, step, lambda folder: (folder / "w").touch())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000004", "step-00000005"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from distill.training.checkpoints import save_checkpoint
from curation.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
root = Path(sys.argv[1])
save_checkpoint(root, 1, lambda folder: (folder / "w").write_bytes(bytes(100)))
resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
try:
    save_checkpoint(root, 2, lambda folder: (folder / "w").write_bytes(bytes(100000)))
except UserError as error:
    sys.stdout.write(str(error))
"""


def test_a_full_disk_leaves_the_previous_checkpoint_intact(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "step 2 could not be written" in said
    assert "continues from step-00000001" in said
    assert "\n" not in said
    assert newest_checkpoint(tmp_path) == tmp_path / "step-00000001"


def test_metrics_say_what_a_curve_needs(drawn_store, tmp_path):
    metrics = []
    train(make_training(drawn_store, epochs=1), tmp_path, watch(metrics))
    assert len(metrics) == 4
    assert {"iteration", "epoch", "learning_rate", "images_per_second", "loss_total"} <= set(
        json.loads(json.dumps(metrics[0]))
    )

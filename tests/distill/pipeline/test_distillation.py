"""Every kind of distillation in whole trainings: teacher centres, narrow students, resumes."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_job import job_text, make_workspace, network_text, stage_text, teacher_text
from small_training import (
    PREPROCESSING,
    assert_equal_bits,
    make_network,
    make_training,
    watch,
    weights,
)

from curation.errors import UserError
from distill.pipeline import teacher_centres as module
from distill.pipeline.architecture import Architecture
from distill.pipeline.fit import check_fit
from distill.pipeline.teacher_centres import teacher_centres
from distill.pipeline.training import LOSSES, Stage, TrainedNetwork
from distill.spec_text import parse_spec
from distill.training.config import TrainSettings
from distill.training.loop import Stopped, train
from teachers.embedder import TorchEmbedder, module_digest
from teachers.embeddings import cache_embeddings

KINDS = [
    "relational_distance = {}",
    "relational_angle = {}",
    "triplet_distillation = {}",
    "angular = { project = true }",
    "angular_squared = { project = true }",
    "teacher_logits = { project = true }",
    "margin_distillation = { project = true }",
    "adadistill = { project = true }",
]
SPEC = job_text(
    "narrow",
    teacher_text("mobilefacenet"),
    stage_text(", ".join(KINDS)),
    student=network_text(embedding=8),
)


@pytest.fixture(scope="module")
def cache(drawn_store, tmp_path_factory):
    network = make_network(seed=7)
    teacher = TorchEmbedder(network, PREPROCESSING, module_digest(network))
    return cache_embeddings(teacher, drawn_store, tmp_path_factory.mktemp("cache"))


def test_a_centre_is_the_direction_of_the_mean_of_both_views(cache, drawn_store, monkeypatch):
    monkeypatch.setattr(module, "_ROWS", 7)  # so that identities span several blocks
    expected = []
    for identity in range(drawn_store.identities):
        rows = drawn_store.rows[drawn_store.labels == identity]
        mean = cache.unit[rows].astype(np.float64).reshape(-1, cache.embedding).mean(axis=0)
        expected.append(mean / np.linalg.norm(mean))
    centres = teacher_centres(cache, drawn_store)
    assert centres.dtype == torch.float32
    np.testing.assert_allclose(centres.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("engine", ["torch", "deepspeed"])
def test_moving_centres_and_maps_resume_to_the_same_bits(drawn_store, cache, tmp_path, engine):
    def training():
        losses = {"adadistill": {}, "angular": {"project": True}}
        return make_training(drawn_store, cache, losses, epochs=2, engine=engine)

    whole, cut, resumed = training(), training(), training()
    train(whole, tmp_path / "whole", watch())
    steps = []
    with pytest.raises(Stopped):
        train(cut, tmp_path / "cut", watch(steps, lambda: len(steps) == 2))
    train(resumed, tmp_path / "cut", watch())
    assert_equal_bits(weights(resumed), weights(whole))
    assert {"parts.adadistill.centres", "projections.angular.weight"} <= weights(whole).keys()


NARROW = Architecture("mobilefacenet", 8, PREPROCESSING.size, 0.125)


def narrow(start=None, seed=0):
    settings = TrainSettings(batch_size=12, learning_rate=0.001, log_every=1, seed=seed)
    return Stage(NARROW, parse_spec(SPEC, "spec").stage[0].losses, 1, settings, start)


def test_a_narrow_student_learns_from_every_kind_of_distillation(cache, drawn_store, tmp_path):
    metrics, learning = [], narrow()
    learning.train(drawn_store, cache, tmp_path, watch(metrics))
    for name in learning.losses:
        values = [line[f"loss_{name}"] for line in metrics]
        assert all(np.isfinite(values))
        assert min(values) > 0


def test_the_next_stage_takes_the_maps_and_the_moving_centres(cache, drawn_store, tmp_path):
    narrow().train(drawn_store, cache, tmp_path, watch())
    then = narrow(TrainedNetwork(NARROW, tmp_path, "before"), seed=1)
    assert_equal_bits(
        then.training(drawn_store, cache).losses.state_dict(), load_file(tmp_path / LOSSES)
    )


@pytest.mark.parametrize("name", ["angular", "teacher_logits", "adadistill"])
def test_a_narrow_student_is_refused_if_a_loss_compares(drawn_store, drawn_folder, tmp_path, name):
    workspace = make_workspace(tmp_path, drawn_store, drawn_folder)
    text = SPEC.replace(f"{name} = {{ project = true }}", f"{name} = {{}}")
    with pytest.raises(UserError) as error:
        check_fit(parse_spec(text, "spec"), workspace)
    message = str(error.value)
    assert "student.embedding: 8 is not" in message
    assert f"8 is not the teacher's 16, and {name} compares the two" in message
    assert f"stage 1: losses.{name}.project = true" in message
    assert "\n" not in message

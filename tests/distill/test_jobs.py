"""The example jobs are consistent with the code: networks, losses, settings and budgets."""

from pathlib import Path

import pytest

from distill.backbones import lookup
from distill.budget import check_budget
from distill.pipeline.architecture import Architecture
from distill.pipeline.planning import plan
from distill.spec_text import parse_spec

JOBS = {path.stem: path for path in sorted((Path(__file__).parents[2] / "jobs").glob("*.toml"))}
OF_THE_PAPERS = {
    "mobilefacenet", "vargfacenet", "seesawfacenet", "bitmain-yoa", "bitmain-retina-s",
    "progressive", "teacher-r100",
}  # fmt: skip
CHALLENGE_GFLOP = {"vargfacenet": 1024, "progressive": 1024, "bitmain-yoa": 1073}


def read(name):
    return parse_spec(JOBS[name].read_text(), JOBS[name].name)


@pytest.fixture(params=JOBS)
def spec(request):
    return read(request.param)


def test_there_is_a_job_for_every_recipe_of_the_papers():
    assert JOBS.keys() >= OF_THE_PAPERS


@pytest.mark.parametrize("name", JOBS)
def test_a_job_has_the_name_of_its_file_and_says_what_it_is(name):
    assert read(name).name == name
    first, second = JOBS[name].read_text().splitlines()[:2]
    assert first == "#:schema ../distill/spec.schema.json"
    assert second.startswith("# ")


def test_every_step_of_a_job_has_its_own_name(spec):
    names = [step.name for step in plan(spec)]
    assert len(set(names)) == len(names)
    assert names[-2:] == ["evaluate", "export"]


def test_every_network_can_be_built_and_keeps_its_budget(spec):
    for network in (spec.student, spec.teacher and spec.teacher.network):
        if network is not None and network.backbone:
            lookup(network.backbone)
            Architecture.resolve(network).check()
    if spec.student is not None and spec.student.budget is not None:
        student = Architecture.resolve(spec.student)
        check_budget(
            spec.student.budget,
            student.backbone,
            student.embedding,
            student.input_size,
            student.width,
        )


def test_the_limit_of_the_challenge_is_its_entries_budget():
    for name, mflops in CHALLENGE_GFLOP.items():
        budget = read(name).student.budget
        assert (budget.mflops, budget.size_mib, budget.embedding) == (mflops, 20, 512)


@pytest.mark.parametrize("name", ["progressive", "progressive-sample"])
def test_the_progressive_recipe_has_the_papers_stages(name):
    stages = read(name).stage
    assert [sorted(stage.losses) for stage in stages] == [
        ["arcface"],
        ["combined"],
        ["sv"],
        ["inter", "intra", "sv"],
        ["inter", "intra", "sv"],
        ["inter", "intra", "sv"],
        ["inter", "intra", "sv", "triplet"],
    ]
    balanced = [
        "sv" in stage.losses and stage.losses["sv"].class_balance is not None for stage in stages
    ]
    assert balanced == [False] * 4 + [True] * 3
    assert [stage.sampler.images for stage in stages] == [None] * 5 + [4, 4]
    assert stages[-1].losses["triplet"].mining == "semi-hard"
    margins = [
        {key: getattr(stage.losses[loss], key) for key in ("m1", "m2", "m3")}
        for stage in stages[1:]
        for loss in stage.losses.keys() & {"combined", "sv"}
    ]
    assert margins == [margins[0]] * 6


def test_the_recursion_follows_the_paper():
    spec = read("vargfacenet")
    assert spec.generations.count == 2
    assert spec.stage[0].losses["angular"].weight == 7.0
    assert spec.teacher.source == "teacher-r100"


def test_mobilefacenet_decays_as_in_the_paper():
    train = read("mobilefacenet").train
    assert (train.batch_size, train.learning_rate, train.momentum) == (512, 0.1, 0.9)
    assert (train.weight_decay, train.head_weight_decay) == (4e-5, 4e-4)

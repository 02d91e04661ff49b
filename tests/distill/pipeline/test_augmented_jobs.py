"""Jobs whose student sees augmented views."""

import json
import re
from pathlib import Path

import pytest
from small_job import (
    ARCFACE,
    job_text,
    make_workspace,
    run_job,
    stage_text,
    steps_of,
    teacher_text,
)

from curation.errors import UserError
from distill.evaluation.set_features import FEATURES
from distill.pipeline.architecture import Architecture
from distill.pipeline.steps import StepStore
from distill.pipeline.training import Stage
from distill.spec_text import parse_spec

LEARN = stage_text(f"{ARCFACE}, angular = {{}}", epochs=2)
SEES_PLAIN = '[augment]\nteacher_sees = "plain"\n'
VIEWS = "[augment]\nviews = 4\nmix = 0.2\nleast_cosine = -1.0\n"


def teacher(answers=None):
    table = teacher_text("mobilefacenet")
    return table if answers is None else f'{table}answers = "{answers}"\n'


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, drawn_store, drawn_folder):
    return make_workspace(tmp_path_factory.mktemp("workspace"), drawn_store, drawn_folder)


def trained(workspace, text):
    """The job's steps up to its trainings; the rest is the same as without views."""
    return run_job(workspace, text, until="evaluate")


def caches_of(workspace):
    """The folders of the teacher's embeddings, except those of evaluation sets."""
    every = workspace.cache.iterdir() if workspace.cache.exists() else []
    return {each for each in every if each.name != FEATURES}


def embed_step(workspace, name):
    steps = json.loads((workspace.runs / name / "steps.json").read_text())
    return next(step for step in steps if step["name"] == "embed")


def test_a_step_without_views_keeps_its_identity():
    class Images:
        digest = "d" * 64
        image_size = (112, 112)

    class Cache:
        digest = "c" * 64

    text = (
        'name = "job"\ndata = { train = "drawn/train" }\n'
        'teacher = { from = "t.onnx", preprocessing = { colour = "RGB", mean = 0.0, std = 1.0 } }\n'
        'student = { backbone = "mobilefacenet", embedding = 16 }\n'
        "[[stage]]\nepochs = 2\nlosses = { arcface = {}, angular = {} }\n"
    )
    for augment in ("", "[augment]\nviews = 1\n"):
        spec = parse_spec(text + augment, "spec")
        stage = Stage(
            Architecture.resolve(spec.student),
            spec.stage[0].losses,
            2,
            spec.train,
            augment=spec.augment,
        )
        step = StepStore(Path()).folder("distil", stage.inputs(Images, Cache))
        assert step.name == "distil-c226356266210a05"


def test_views_are_embedded_once_and_shared(workspace):
    steps = trained(workspace, job_text("views", teacher(), LEARN, VIEWS))
    assert steps["embed"] == steps["generation 1"] == "done"
    assert "0.0% of the augmented views" in embed_step(workspace, "views")["note"]
    caches = len(caches_of(workspace))
    assert caches == 1 + 2  # two of four views are the image and its mirror image, in one cache
    again = trained(workspace, job_text("views-again", teacher(), LEARN, VIEWS))
    assert again["embed"] == again["generation 1"] == "reused"
    more = VIEWS.replace("views = 4", "views = 6")
    steps = trained(workspace, job_text("more-views", teacher(), LEARN, more))
    assert steps["embed"] == steps["generation 1"] == "done"
    assert len(caches_of(workspace)) == caches + 2
    without = trained(workspace, job_text("without", teacher(), LEARN))
    assert (without["embed"], without["generation 1"]) == ("reused", "done")


def test_an_online_teacher_needs_no_cache(workspace):
    before = caches_of(workspace)
    fresh = '[augment]\nviews = "fresh"\nmix = 0.2\nseed = 3\n'
    steps = trained(workspace, job_text("online", teacher("online"), LEARN, fresh))
    assert steps["embed"] == steps["generation 1"] == "done"
    assert "runs at every step" in embed_step(workspace, "online")["note"]
    after = caches_of(workspace)
    assert after == before
    again = trained(workspace, job_text("online-again", teacher("online"), LEARN, fresh))
    assert again["generation 1"] == "reused"


def test_a_teacher_of_plain_images_embeds_as_without_views(workspace):
    trained(workspace, job_text("mirror", teacher(), LEARN))
    caches = caches_of(workspace)
    for views in ("4", '"fresh"'):
        name = f"plain-{views.strip(chr(34))}"
        steps = trained(
            workspace, job_text(name, teacher(), LEARN, f"{SEES_PLAIN}views = {views}\n")
        )
        assert (steps["embed"], steps["generation 1"]) == ("reused", "done")
    assert caches_of(workspace) == caches


def test_int8_answers_teach_as_well(workspace):
    steps = trained(workspace, job_text("small", teacher("int8"), LEARN, VIEWS))
    assert steps["embed"] == steps["generation 1"] == "done"


def test_stages_and_generations_see_views(workspace):
    stages = [LEARN, stage_text("angular = {}", more="learning_rate = 0.01")]
    generations = "[generations]\ncount = 2\n"
    text = job_text("long", teacher(), *stages, generations, VIEWS)
    run_job(workspace, text, until="generation 2 stage 1")
    steps = trained(workspace, text)
    assert steps["generation 2 stage 2"] == "done"
    assert steps_of(workspace, "long")["generation 1 stage 1"] in {"done", "reused"}


def test_labels_alone_are_learnt_from_views_without_a_teacher(workspace):
    views = "[augment]\nviews = 4\n"
    steps = trained(workspace, job_text("labels", stage_text(), views))
    assert "embed" not in steps
    assert steps["generation 1"] == "done"


def refused(workspace, *tables):
    with pytest.raises(UserError) as error:
        parse_spec(job_text("refused", *tables), "job.toml")
    return str(error.value)


@pytest.mark.parametrize("answers", ["float16", "online"])
def test_a_job_warns_if_most_views_are_rejected(workspace, answers):
    """Its student would see the plain images only, although its spec asks for views."""
    strict = "[augment]\nviews = 4\nleast_cosine = 0.99999\n"
    name = f"strict-{answers}"
    run_job(workspace, job_text(name, teacher(answers), LEARN, strict), until="generation 1")
    (warning,) = json.loads((workspace.runs / name / "warnings.json").read_text())
    assert (warning["step"], warning["key"]) == ("embed", "rejected views")
    assert "below augment.least_cosine = 0.99999" in warning["text"]


def test_a_remembered_network_may_see_mixed_images(workspace):
    """It embeds the pixels of the batch, mixed or not, so they need no other teacher."""
    student = '{ from = "old", remember = 7.0 }'
    views = "[augment]\nviews = 4\nmix = 0.2\n"
    job = parse_spec(job_text("mixed", stage_text(), views, student=student), "job.toml")
    assert job.augment.mix == 0.2
    with pytest.raises(UserError, match=r"or student\.remember if the student starts"):
        parse_spec(job_text("mixed", stage_text(), views), "job.toml")


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        (
            (teacher(), LEARN, "[augment]\nviews = 2\n"),
            "augment.views: 2 would be the image and its",
        ),
        ((teacher(), LEARN, "[augment]\nviews = 0\n"), "augment.views"),
        ((teacher(), LEARN, '[augment]\nviews = "many"\n'), "augment.views"),
        ((teacher(), LEARN, "[augment]\nviews = 8\nmixx = 0.1\n"), "did you mean 'mix'"),
        ((teacher(), LEARN, "[augment]\nmix = 0.1\n"), "augment.mix: needs augmented views"),
        (
            (teacher(), LEARN, "[augment]\nviews = 8\nblur = { sigma = -1.0 }\n"),
            "augment.blur.sigma",
        ),
        ((teacher(), LEARN, '[augment]\nviews = "fresh"\n'), 'the embeddings of "fresh" views'),
        ((stage_text(), "[augment]\nviews = 8\nleast_cosine = 0.3\n"), "no loss of any stage"),
        (
            (stage_text(), f"{SEES_PLAIN}views = 8\n"),
            "teacher_sees: applies to the teacher's",
        ),
        ((teacher(), LEARN, SEES_PLAIN), "augment.teacher_sees: needs augmented views"),
        (
            (teacher(), LEARN, f"{SEES_PLAIN}views = 8\nmix = 0.1\n"),
            "no plain image shows two people",
        ),
        (
            (teacher(), LEARN, f"{SEES_PLAIN}views = 8\nleast_cosine = 0.3\n"),
            "augment.least_cosine: applies to the teacher's embeddings",
        ),
        (
            (teacher("online"), LEARN, f"{SEES_PLAIN}views = 8\n"),
            "augment.teacher_sees: the embeddings of plain images are cached",
        ),
        ((stage_text(), "[augment]\nviews = 8\nmix = 0.1\n"), "can learn from mixed images"),
        (
            (teacher(), LEARN, "[augment]\nviews = 3\nplain = 0.1\n"),
            "allowed: 0 for none, 0.5 or more, or views = 7 or more",
        ),
        (
            (teacher("online"), stage_text("margin_distillation = {}")),
            'teacher.answers: "online" gives no class centres',
        ),
        ((teacher("float32"), LEARN), "teacher.answers"),
    ],
)
def test_an_impossible_value_is_one_line_with_its_place(workspace, tables, words):
    message = refused(workspace, *tables)
    assert words in message
    assert re.search(r"job.toml:\d+:\d+", message)
    assert "\n" not in message.strip()


def test_dropout_is_part_of_a_step_and_of_no_bundle(workspace):
    text = job_text("dropping", teacher(), LEARN)
    student = "student = { "
    dropping = text.replace(student, student + "dropout = 0.4, ", 1)
    assert trained(workspace, dropping)["generation 1"] == "done"
    assert "dropout" not in json.dumps(
        json.loads((workspace.runs / "dropping" / "steps.json").read_text())
    )
    without = job_text("not-dropping", teacher(), LEARN)
    assert trained(workspace, without)["embed"] == "reused"

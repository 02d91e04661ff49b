"""A first spec depends on facts only, and is readable for every size of data set."""

from dataclasses import replace

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from curation.errors import UserError
from distill.first_spec.facts import DataFacts, Facts, MachineFacts, StudentFacts, TeacherFacts
from distill.first_spec.rules import (
    LONGEST_ON_CPU,
    Choice,
    answers_bytes,
    choose,
    choose_student,
    training_seconds,
)
from distill.first_spec.text import LINE, spec_text
from distill.spec_text import parse_spec
from teachers.framing import shows_all

MOBILEFACENET = StudentFacts("mobilefacenet", "mobilefacenet", 128, (112, 112), 221.0, 440.0)
EDGEFACE = StudentFacts("edgeface_xs", "edgeface", 512, (112, 112), 76.0, 152.0)
IRESNET = StudentFacts("iresnet50", "iresnet", 512, (112, 112), 6309.0, 12650.0)
NO_GPU = MachineFacts(gpus=0, cores=2, memory=16 << 30, free_disk=100 << 30)
ONE_GPU = MachineFacts(gpus=1, cores=16, memory=128 << 30, free_disk=500 << 30)
EIGHT_GPUS = MachineFacts(gpus=8, cores=128, memory=1 << 40, free_disk=8 << 40)
SIZES = {
    300: 30,
    1_700: 99,
    19_004: 4_941,
    491_582: 10_572,
    5_179_510: 93_431,
    17_091_657: 360_232,
    42_474_557: 2_059_906,
}
"""Images and identities: drawn faces to WebFace42M"""


def facts(images=19_004, identities=4_941, machine=ONE_GPU, student=MOBILEFACENET, **more):
    labelled, repeated = images if identities else 0, more.pop("repeated", None)
    if repeated is None:
        repeated = min(identities, max(0, labelled - identities))
    data = DataFacts(images, labelled, identities, repeated, (112, 112), images * 6_000)
    teacher = more.pop("teacher", TeacherFacts(512))
    return Facts(data, student, machine, teacher, more.pop("budget", None))


def chosen(given: Facts) -> dict[str, object]:
    return {each.name: each.value for each in choose(given)}


@pytest.mark.parametrize("machine", [NO_GPU, ONE_GPU, EIGHT_GPUS])
@pytest.mark.parametrize("student", [MOBILEFACENET, EDGEFACE, IRESNET])
@pytest.mark.parametrize("images", SIZES)
@pytest.mark.parametrize("kind", ["both", "no labels", "no teacher", "wide teacher"])
def test_the_spec_can_be_read_and_has_a_reason_for_each_value(machine, student, images, kind):
    given = facts(images, 0 if kind == "no labels" else SIZES[images], machine, student)
    if kind == "no teacher":
        given = replace(given, teacher=None)
    if kind == "wide teacher":
        given = replace(given, teacher=replace(given.teacher, embedding=1024))
    choices = choose(given)
    assert all(each.reason for each in choices)
    named = [Choice("", "name", "mine", "yours"), Choice("data", "train", "faces/all", "there")]
    if kind != "no teacher":
        named.append(Choice("teacher", "from", "r100", "a job"))
    text = spec_text([*named, *choices])
    job = parse_spec(text, "spec")
    assert max(map(len, text.splitlines())) <= LINE + 40  # a value may be longer than its reason
    settings, (stage,) = job.train, job.stage
    assert settings.batch_size <= images // 10
    assert settings.batch_size % max(1, machine.gpus if job.resources.gpus else 1) == 0
    assert ("angular" in stage.losses) == (kind != "no teacher")
    assert ("arcface" in stage.losses) == (kind != "no labels")
    assert job.augment.augments <= (kind != "no teacher")
    if kind == "wide teacher":
        assert job.student.embedding == 512
        assert stage.losses["angular"].project


def test_more_images_are_seen_in_fewer_epochs_and_larger_batches():
    found = [chosen(facts(images, SIZES[images])) for images in SIZES]
    epochs = [each["stage.epochs"] for each in found]
    batches = [each["train.batch_size"] for each in found]
    seen = [count * size for count, size in zip(epochs, SIZES, strict=True)]
    assert epochs == sorted(epochs, reverse=True)
    assert batches == sorted(batches)
    assert seen == sorted(seen)


@pytest.mark.parametrize("gpus", [2, 3, 5, 6, 7])
@pytest.mark.parametrize("images", [491_582, 5_179_510])
def test_a_batch_is_divisible_by_the_gpus(gpus, images):
    found = chosen(facts(images, SIZES[images], replace(EIGHT_GPUS, gpus=gpus)))
    assert found["train.batch_size"] % found["resources.gpus"] == 0


def test_an_epoch_of_more_than_a_day_is_admitted():
    slow = replace(NO_GPU, cores=1)
    given = facts(42_474_557, SIZES[42_474_557], slow)
    reason = next(each.reason for each in choose(given) if each.key == "epochs")
    assert "on 1 core; use a GPU" in reason


def test_few_images_of_an_identity_favour_the_teacher():
    def arcface(images, identities):
        return chosen(facts(images, identities))["stage.losses"].get("arcface")

    assert arcface(90_000, 1_500) == {"scale": 64.0, "margin": 0.5}
    assert arcface(19_000, 5_000) == {"weight": 0.15, "scale": 32.0, "margin": 0.2}
    assert arcface(19_000, 15_000) is None


def test_few_identities_favour_the_teacher_too():
    """A softmax over a few people says little about others, however many images each has."""
    few = facts(900, 4)
    assert chosen(few)["stage.losses"]["arcface"]["weight"] == 0.15
    reason = next(each.reason for each in choose(few) if each.key == "losses")
    assert reason.startswith("arcface: 4 identities with 225.0 images each, the values measured on")


@pytest.mark.parametrize(("identities", "repeated"), [(1, 1), (300, 1), (500, 0), (0, 0)])
def test_labels_that_teach_nothing_are_left_to_the_teacher(identities, repeated):
    losses = next(
        each for each in choose(facts(500, identities, repeated=repeated)) if each.key == "losses"
    )
    assert set(losses.value) == {"angular"}
    assert "the student learns from the teacher alone" in losses.reason


@pytest.mark.parametrize("machine", [NO_GPU, ONE_GPU, EIGHT_GPUS])
@pytest.mark.parametrize("images", [8, 10, 60, 300])
def test_few_images_still_fill_a_batch_for_batch_normalisation(images, machine):
    assert 8 <= chosen(facts(images, 2, machine))["train.batch_size"] <= images


def test_without_a_gpu_a_training_ends_within_a_day():
    for images in (19_004, 491_582, 5_179_510):
        given = facts(images, SIZES[images], NO_GPU)
        found = chosen(given)
        size = tuple(found.get("student.input_size", (112, 112)))
        seconds = training_seconds(given, found["stage.epochs"], size)
        assert seconds <= LONGEST_ON_CPU or found["stage.epochs"] == 1
    assert "student.input_size" not in chosen(facts(19_004, 4_941, NO_GPU))
    assert found["student.input_size"] == [64, 64]


def test_the_teachers_answers_fit_on_the_disk():
    small = replace(ONE_GPU, free_disk=10 << 30)
    for images in SIZES:
        given = facts(images, SIZES[images], small)
        kept = chosen(given).get("teacher.answers", "float16")
        size = {"float16": 2, "int8": 1, "online": 0}[kept]
        assert answers_bytes(given, size) <= 0.9 * small.free_disk
    assert kept == "online"


def test_views_come_with_long_schedules_on_small_sets():
    def augment(given):
        found = chosen(given)
        return {key: value for key, value in found.items() if key.startswith("augment.")}

    fresh = {"augment.views": "fresh", "augment.teacher_sees": "plain", "augment.plain": 0.5}
    assert augment(facts(19_004, 4_941)) == fresh
    assert augment(facts(5_179_510, 93_000)) == {}
    hurried = facts(491_582, 10_000, replace(NO_GPU, cores=1))
    assert chosen(hurried)["stage.epochs"] < 16
    assert augment(hurried) == {}
    assert augment(facts(teacher=None)) == {}


def test_very_many_identities_get_partial_fc_in_shards():
    assert "train.centres" not in chosen(facts(5_000_000, 93_000))
    assert chosen(facts(17_000_000, 360_000))["train.centres"] == {"sample_rate": 0.2}
    found = chosen(facts(42_000_000, 2_000_000, EIGHT_GPUS))
    assert found["train.centres"] == {"sample_rate": 0.1, "sharded": True}
    assert found["train.batch_size"] == 1024
    assert found["train.learning_rate"] == 0.2


def test_few_images_are_trained_on_by_one_gpu():
    assert chosen(facts(19_004, 4_941, EIGHT_GPUS))["resources.gpus"] == 1


def test_a_heavy_network_is_trained_in_bf16_on_a_gpu():
    assert chosen(facts(student=IRESNET))["train.precision"] == "bf16"
    assert chosen(facts(student=IRESNET, machine=NO_GPU))["train.precision"] == "fp32"
    assert chosen(facts())["train.precision"] == "fp32"


@pytest.mark.parametrize(
    ("images", "machine", "size"),
    [
        ((72, 72), ONE_GPU, [64, 64]),
        ((72, 80), ONE_GPU, [64, 80]),
        ((112, 96), ONE_GPU, [112, 96]),
        ((160, 128), ONE_GPU, [112, 80]),
        ((218, 178), ONE_GPU, [112, 80]),
        ((218, 187), ONE_GPU, [112, 96]),
        ((218, 185), ONE_GPU, [96, 80]),
        ((250, 1000), ONE_GPU, [16, 64]),
        ((40, 30), ONE_GPU, [64, 48]),
        ((1, 1), ONE_GPU, [32, 32]),
        ((112, 96), NO_GPU, [64, 48]),
        ((218, 178), NO_GPU, [64, 48]),
    ],
    ids=str,
)
def test_a_student_fits_images_of_any_size_and_aspect(images, machine, size):
    given = facts(machine=machine, images=19_004 if machine == ONE_GPU else 900_000)
    other = replace(given, data=replace(given.data, image_size=images))
    assert chosen(other)["student.input_size"] == size
    assert shows_all(images, tuple(size))


@for_all(st.integers(8, 2_000), st.integers(8, 2_000))
def test_images_of_any_aspect_show_all_of_the_input(height, width):
    usual = facts()
    other = replace(usual, data=replace(usual.data, image_size=(height, width)))
    size = chosen(other).get("student.input_size", [112, 112])
    assert shows_all((height, width), tuple(size)) or 16 in size


def test_nothing_to_learn_from_is_reported():
    given = facts(500, 500, teacher=None)
    with pytest.raises(UserError, match="each identity has one image"):
        choose(given)
    with pytest.raises(UserError, match="no image has a label"):
        choose(facts(500, 0, teacher=None))
    with pytest.raises(UserError, match="only one identity has several images"):
        choose(facts(500, 300, repeated=1, teacher=None))
    with pytest.raises(UserError, match="has 7 images; a training set needs at least 8"):
        choose(facts(7, 2))


def test_a_budget_gets_the_best_network_within_it():
    known = [
        replace(MOBILEFACENET, backbone=name, mflops=cost)
        for name, cost in [
            ("edgeface_xxs", 93.0),
            ("mobilefacenet", 440.0),
            ("vargfacenet", 1023.0),
        ]
    ]
    assert choose_student(450, known).backbone == "mobilefacenet"
    assert choose_student(5000, known).backbone == "vargfacenet"
    assert choose_student(100, known).backbone == "edgeface_xxs"
    with pytest.raises(UserError, match=r"--mflops 20: the smallest student here is edgeface_xxs"):
        choose_student(20, known)

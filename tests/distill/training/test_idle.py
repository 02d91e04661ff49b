"""A loss or a gradient without effect is reported once, for any number of steps."""

import errno
import json

import pytest
import torch

from curation.errors import UserError
from distill.evaluation.doubts import doubts
from distill.export.model_card import model_card
from distill.notices import Notice, keeping, read_notices
from distill.pipeline.record import RunRecord, write_failure
from distill.pipeline.steps import StepStore
from distill.run_directory import StepState
from distill.training.engine import StepReport
from distill.training.idle import LEAST_STEPS, IdleCheck


def report(gradient=1.0, centres=1.0, **losses):
    values = {name: torch.tensor(value) for name, value in losses.items()}
    values = {"total": sum(values.values()), **values}
    return StepReport(values, torch.tensor(gradient), {"losses.centres": torch.tensor(centres)})


def said(check):
    return [notice.key for notice in check.look()]


def test_a_loss_of_zero_in_every_step_is_noticed():
    check = IdleCheck(steps=100)
    for step in range(LEAST_STEPS):
        check.add(report(float(step), float(step), triplet=0.0, arcface=float(step)))
    [notice] = check.look()
    assert notice.key == "idle: triplet"
    assert "exactly 0" in notice.text
    assert 'kind = "pk"' in notice.text


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"relational_angle": 0.25}, "idle: relational_angle"),
        ({"gradient": 0.0}, "idle: gradient"),
        ({"centres": 0.0}, "idle: losses.centres"),
    ],
)
def test_a_constant_loss_is_noticed(values, key):
    check = IdleCheck(steps=100)
    for step in range(LEAST_STEPS):
        moving = {"gradient": step + 1.0, "centres": step + 1.0, "arcface": step + 1.0}
        check.add(report(**{**moving, **values}))
    assert said(check) == [key]


def test_one_step_with_an_effect_prevents_the_notice():
    check = IdleCheck(steps=100)
    for step in range(LEAST_STEPS):
        check.add(report(gradient=float(step), centres=float(step), triplet=0.1 * (step == 7)))
    assert said(check) == []


def test_few_steps_are_judged_only_in_a_short_training():
    check = IdleCheck(steps=100)
    for _ in range(LEAST_STEPS - 1):
        check.add(report(triplet=0.0))
    assert said(check) == []
    check.add(report(triplet=0.0))
    assert "idle: triplet" in said(check)
    short = IdleCheck(steps=3)
    for step in range(3):
        short.add(report(gradient=float(step), centres=float(step), triplet=0.0))
    assert said(short) == ["idle: triplet"]


def test_notices_are_kept_once_in_the_folder_of_their_step(tmp_path):
    told, path = [], tmp_path / "warnings.json"
    warn = keeping(path, told.append)
    for text in ("first", "second"):
        warn(Notice("same", text))
    warn(Notice("other", "third"))
    assert len(told) == 3
    assert [notice.text for notice in read_notices(path)] == ["first", "third"]
    for damage in ("", "{", "[1]", '[{"key": 1}]', "[" * 100_000):
        path.write_text(damage)
        assert read_notices(path) == []


def evaluation(**report):
    rates = {"1e-3": {"tar": report.pop("tar", None)}}
    usual = {"genuine": 30, "impostors": 70, "pairs": 100, "tar_at_far": rates}
    return {"sets": {"lfw": {**usual, **report}}}


@pytest.mark.parametrize("scores", [{"accuracy": 0.0}, {"accuracy": 0.7}, {"tar": 0.001}])
def test_scores_of_chance_are_reported(scores):
    [notice] = doubts("student", evaluation(**scores))
    assert notice.text.startswith("student does not tell people apart on lfw:")


@pytest.mark.parametrize("scores", [{"accuracy": 0.71}, {"tar": 0.5}, {"accuracy": None}, {}])
def test_scores_above_chance_or_none_say_nothing(scores):
    assert list(doubts("student", evaluation(**scores))) == []


def test_a_run_keeps_a_warning_once_with_its_step(tmp_path):
    told = []
    record = RunRecord(tmp_path / "run", lambda event: told.append((event.kind, event.step)))
    record.steps = [StepState("generation 1", "distil")]
    record.warn(Notice("unused teacher", "it teaches nothing"))
    with record.step("generation 1"):
        for text in ("first", "second"):
            record.warn(Notice("idle: triplet", text))
    kept = json.loads((record.folder / "warnings.json").read_text())
    assert [(each["step"], each["text"]) for each in kept] == [
        ("", "it teaches nothing"),
        ("generation 1", "first"),
    ]
    assert [step for kind, step in told if kind == "warning"] == ["", "generation 1"]


def test_the_card_lists_warnings_only_if_there_are_any(small_config, small_evaluation):
    plain = model_card("x", small_config, small_evaluation)
    assert "Warnings" not in plain
    warnings = [{"step": "generation 1", "key": "k", "text": "nothing <learned>"}]
    card = model_card("x", small_config, {**small_evaluation, "warnings": warnings})
    assert "## Warnings" in card
    assert r"- generation 1\: nothing &lt;learned&gt;" in card


def test_a_full_disk_is_reported_as_such(tmp_path):
    record = RunRecord(tmp_path / "run")
    write_failure(record.folder, OSError(errno.ENOSPC, "No space left on device", "/data/x"))
    failure = json.loads((record.folder / "failure.json").read_text())
    assert failure["reason"] == "the disk cannot be written: No space left on device (/data/x)"
    assert "continues from its last checkpoint" in failure["hint"]


def test_a_damaged_result_of_a_step_says_what_to_remove(tmp_path):
    steps = StepStore(tmp_path)
    folder = steps.perform("evaluate", {"a": 1}, lambda folder: {"done": True}).folder
    for damage in ("", "{", "[" * 100_000):
        (folder / "result.json").write_text(damage)
        with pytest.raises(UserError, match=r"result\.json is damaged: .* remove"):
            steps.perform("evaluate", {"a": 1}, lambda folder: {"done": True})

"""After running out of memory, a job halves its micro-batches and remains the same job."""

import pytest
from small_job import job_text, make_workspace, run_job, stage_text

from distill.daemon.runfolder import keep_halved
from distill.pipeline.halving import halved
from distill.run_directory import read_warnings
from distill.training.config import SamplerSettings, TrainSettings
from distill.training.plan import SHUFFLE


@pytest.mark.parametrize(
    ("batch", "accumulate", "ranks", "sampler", "half"),
    [
        (512, 1, 1, SHUFFLE, 2),
        (512, 4, 2, SHUFFLE, 8),
        (12, 1, 4, SHUFFLE, None),  # 3 images per rank
        (4, 1, 1, SHUFFLE, None),  # batch normalisation of 2 images
        (64, 1, 1, SamplerSettings(kind="pk", images=4), 2),
        (64, 16, 1, SamplerSettings(kind="pk", images=4), None),
    ],
)
def test_batches_are_halved_if_possible(batch, accumulate, ranks, sampler, half):
    settings = TrainSettings(batch_size=batch, accumulate=accumulate)
    found = halved(settings, sampler, ranks)
    assert (found and found.accumulate) == half
    if found is not None:
        assert found == settings.model_copy(update={"accumulate": half})


def test_a_halved_job_finds_its_steps_and_says_what_it_does(tmp_path, drawn_store, drawn_folder):
    workspace = make_workspace(tmp_path, drawn_store, drawn_folder)
    text = job_text("tiny", stage_text())
    run = workspace.runs / "tiny"
    run.mkdir(parents=True)
    keep_halved(run, "interrupted: no memory left")
    run_job(workspace, text)
    told = [warning["text"] for warning in read_warnings(run)]
    (said,) = [text for text in told if "micro-batches" in text]
    assert said.startswith("batches are now split into 2 micro-batches instead of 1")
    assert "(no memory left)" in said
    keep_halved(run, None)
    assert set(run_job(workspace, text).values()) == {"reused"}
    # Another job that reuses the step gets the warning too.
    assert said in [warning["text"] for warning in read_warnings(run)]


def test_another_reason_is_another_record(tmp_path):
    keep_halved(tmp_path, None)
    keep_halved(tmp_path, "a")
    assert '"a"' in (tmp_path / "halved.json").read_text()
    before = (tmp_path / "halved.json").stat().st_ino
    keep_halved(tmp_path, "a")
    assert (tmp_path / "halved.json").stat().st_ino == before

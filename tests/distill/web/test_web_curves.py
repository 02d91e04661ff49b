"""The curves of a job's metrics on a page."""

import json
from pathlib import Path

import numpy as np

from distill.run_directory import METRICS
from distill.web import curves
from distill.web.curves import Curves, CurveStore, grouped, thinned


def line(step: str, iteration: int, **values: object) -> str:
    return json.dumps({"step": step, "iteration": iteration, **values}) + "\n"


def test_only_new_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    read = Curves(tmp_path)
    assert read.steps() == {}
    path.write_text(line("teach", 10, loss_total=2.5) + '{"step": "teach", "iter')
    assert read.curve("teach", "loss_total") == ([10.0], [2.5])
    with path.open("a") as file:
        file.write('ation": 20, "loss_total": 1.5}\n' + line("generation 1", 10, score=0.5))
    assert read.curve("teach", "loss_total") == ([10.0, 20.0], [2.5, 1.5])
    assert read.steps() == {"teach": ["loss_total"], "generation 1": ["score"]}
    path.write_text(line("again", 1, loss_total=1))  # a new attempt of a replaced job
    assert list(read.steps()) == ["again"]
    path.unlink()
    assert read.steps() == {}


def test_malformed_metrics_are_skipped(tmp_path: Path) -> None:
    rows = [
        "nonsense\n", "[1]\n", '{"step": 3, "iteration": 1, "loss": 1}\n', "\n",
        '{"step": "a", "iteration": 1, "loss": NaN}\n',
        line("a", 1, loss="x", flag=True, nothing=None, big=10**400, time=3, epoch=1),
        line("a", 2, **{"k" * 1000: 1.0}, fine=0.5),
        '{"step": "a", "loss": 3}\n',
    ]  # fmt: skip
    (tmp_path / METRICS).write_text("".join(rows))
    assert Curves(tmp_path).steps() == {"a": ["fine"]}


def test_a_long_training_is_thinned_and_keeps_its_spikes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(curves, "MOST_ROWS", 1000)
    rows = [line("a", at, loss_total=1.0) for at in range(5000)]
    rows[500] = line("a", 500, score=0.5)
    rows[2000] = line("a", 2000, score=0.75)
    (tmp_path / METRICS).write_text("".join(rows))
    read = Curves(tmp_path)
    x, _ = read.curve("a", "loss_total", 1000, 2000)
    assert 100 < len(x) <= 800
    assert min(x) >= 1000
    assert max(x) <= 2000
    assert read.curve("a", "score") == ([500.0, 2000.0], [0.5, 0.75])
    values = np.zeros(100_000)
    values[77_777] = 9.0
    places, kept = thinned(np.arange(100_000.0), values)
    assert len(places) <= curves.POINTS + 2
    assert max(kept) == 9.0
    assert (places[0], places[-1]) == (0.0, 99_999.0)


def test_of_a_metrics_file_of_gigabytes_the_end_is_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(curves, "MOST_READ", 1 << 20)
    with (tmp_path / METRICS).open("wb") as file:
        file.truncate(4 << 30)
        file.seek(0, 2)
        file.write(f"\n{line('train', 5, loss_total=2.0)}".encode())
    assert Curves(tmp_path).curve("train", "loss_total") == ([5.0], [2.0])


def test_charts_group_related_keys(tmp_path: Path) -> None:
    keys = ["odd", "score", "loss_arcface", "accuracy_lfw", "loss_total", "learning_rate"]
    assert grouped(keys) == {
        "Losses": ["loss_total", "loss_arcface"],
        "Learning rate": ["learning_rate"],
        "Scores": ["accuracy_lfw", "score"],
        "odd": ["odd"],
    }
    store = CurveStore(tmp_path)
    first = store.of("job-0")
    assert store.of("job-0") is first
    for number in range(40):
        store.of(f"job-{number}")
    assert store.of("job-0") is not first

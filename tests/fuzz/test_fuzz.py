import random
from contextlib import suppress
from pathlib import Path

import pytest

from curation.errors import UserError
from tests.fuzz import misbehaving
from tests.fuzz.campaign import run_campaign
from tests.fuzz.harness import find, lay_out, readers, take_in
from tests.fuzz.mutators import make_input
from tests.fuzz.worker import MOST_MEMORY

INPUTS = 60
"""For a reader with an average share; ``just fuzz`` tries hundreds of thousands"""
SECONDS = 120.0
CORPUS = Path(__file__).parent / "corpus"
"""``READER/NAME/``: inputs that once caused a failure"""


@pytest.mark.parametrize("name", readers())
def test_broken_inputs_are_refused_cleanly(name):
    reader, seed = readers()[name], random.randrange(10**6)
    tally = run_campaign(reader, seed, max(5, round(INPUTS * min(reader.share, 1))), SECONDS)
    assert not tally.failures, f"just fuzz {name} --seed {seed} --inputs {tally.inputs}"
    assert tally.peak <= MOST_MEMORY, f"seed {seed}"


@pytest.mark.parametrize("name", readers())
def test_samples_are_accepted(name, tmp_path):
    reader = readers()[name]
    for number, sample in enumerate(reader.samples):
        lay_out(sample, tmp_path / str(number) / "case")
        reader.read(tmp_path / str(number) / "case")


@pytest.mark.parametrize(
    "case", sorted(CORPUS.glob("*/*")), ids=lambda case: "-".join(case.parts[-2:])
)
def test_inputs_that_once_failed_are_refused_or_read(case, tmp_path):
    lay_out(take_in(case), tmp_path / "case")
    with suppress(UserError):
        readers()[case.parent.name].read(tmp_path / "case")


@pytest.mark.parametrize(
    ("name", "outcome", "reason"),
    [
        ("refuses", "refused", None),
        ("raises", "traceback", "KeyError at worker.py"),
        ("dies", "signal", "SIGBUS"),
        ("exits", "signal", "exit status 3"),
        ("hangs", "hang", "no answer within 1 s"),
        ("asks for too much", "traceback", "MemoryError"),
    ],
)
def test_a_campaign_finds_each_fault_and_continues(name, outcome, reason):
    tally = run_campaign(
        find(misbehaving.__name__, name), 7, 2, patience=1.0 if name == "hangs" else SECONDS
    )
    assert tally.counts[outcome] == tally.inputs == 2
    assert [failure.number for failure in tally.failures] == ([] if reason is None else [0, 1])
    assert all(failure.reason.startswith(reason) for failure in tally.failures)


def test_a_campaign_measures_memory():
    tally = run_campaign(find(misbehaving.__name__, "hoards"), 7, 1, patience=60.0)
    assert 300 << 20 < tally.peak < 900 << 20


def test_an_input_depends_only_on_seed_and_number(tmp_path):
    reader = find(misbehaving.__name__, "refuses")
    made = [make_input(reader, 7, number) for number in range(50)]
    assert made == [make_input(reader, 7, number) for number in range(50)]
    assert len({str(each) for each in made}) > 30
    whole = {"a/b.txt": b"1", "c": b""}
    lay_out(whole, tmp_path / "case")
    assert take_in(tmp_path / "case") == whole

"""Random specs: each is refused in clear words, or every training of it makes a step."""

import random
import re
import time

import pytest
from random_specs import random_spec
from small_job import make_workspace, run_job

from curation.errors import UserError
from distill.pipeline.fit import check_job
from distill.spec_text import SpecFile

SECONDS, MOST_RUN = 150.0, 25
PLACE = re.compile(r"spec:\d+:\d+: ")
HOPELESS = re.compile(r"diverged|not finite|no accuracy|zero or|have the same embedding")
"""Why a training of random settings may fail although its spec is valid."""
INTERNAL = re.compile(r"Traceback|NoneType|object at 0x|<class|Error\(|\bnan\b")


@pytest.fixture
def workspace(tmp_path, drawn_store, drawn_folder):
    return make_workspace(tmp_path, drawn_store, drawn_folder)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_random_spec_is_refused_in_words_or_trained(workspace):
    end = time.monotonic() + SECONDS
    first = random.randrange(10**6)
    seed = ran = 0
    while ran < MOST_RUN and time.monotonic() < end:
        seed, ran = seed + 1, ran + tried(workspace, first + seed)
    assert ran > 0, f"no spec from seed {first} was accepted"


def tried(workspace, seed: int) -> bool:
    """Whether the spec of this seed was accepted, and then trained up to the evaluation."""
    text = random_spec(seed)
    about = f"seed {seed}\n{text}"
    said = refusal(about, lambda: check_job(SpecFile.parse(text, "spec"), workspace))
    if said is not None:
        assert PLACE.match(said), f"no place: {said}\n{about}"
        assert not INTERNAL.search(said), f"{said}\n{about}"
        return False
    said = refusal(about, lambda: run_job(workspace, text, until="evaluate"))
    assert said is None or HOPELESS.search(said), f"{said}\n{about}"
    return True


def refusal(about: str, action) -> str | None:
    """The words of a ``UserError`` of the action; any other error is one of the test."""
    try:
        action()
    except UserError as error:
        return str(error)
    except Exception as error:
        raise AssertionError(f"{error!r}\n{about}") from error
    return None

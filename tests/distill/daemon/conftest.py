from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distill.daemon.harness import Harness


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    made = Harness(tmp_path / "workspace")
    yield made
    made.clean_up()

"""A short soak; ``just soak`` runs a long one."""

import random
from pathlib import Path

from curation.workspace import Workspace
from tests.soak.__main__ import Soak


def test_promises_are_kept_while_everything_is_killed(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    soak = Soak(Workspace(tmp_path / "workspace"), seed, lambda text: None)
    assert soak.run(20) == [], f"just soak 20 {seed}"
    assert soak.counts["rounds"] == 20
    assert soak.counts["submits"]

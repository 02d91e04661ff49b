"""Two ranks are started once for all tests of this folder, because that takes seconds."""

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def on_two_ranks(tmp_path_factory, start_two_ranks):
    """The results of distillation_ranks.py on each of two ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("distillation_ranks.py")
    start_two_ranks(script, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]

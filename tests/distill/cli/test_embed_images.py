"""`curate embed`: precomputes embeddings for other commands, alone or on several ranks."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from teachers.embedding_cache import EmbeddingCache

MODULE = ["-m", "distill.cli.curate"]


def embed(store, workspace, *launcher):
    options = ["--teacher", "drawn-faces", "--workspace", str(workspace), "--json"]
    done = subprocess.run(
        [sys.executable, *launcher, *MODULE, "embed", str(store.path), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_row_is_computed_once_and_its_place_printed(drawn_store, tmp_path):
    said = embed(drawn_store, tmp_path)
    assert said["images"] == len(drawn_store)
    cache = EmbeddingCache(tmp_path / "cache" / said["cache"])
    assert np.all(cache.table.entries)
    assert embed(drawn_store, tmp_path) == said


@pytest.mark.slow
def test_torchrun_ranks_agree_and_only_one_prints(drawn_store, tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    said = embed(drawn_store, tmp_path, *torchrun)
    assert np.all(EmbeddingCache(tmp_path / "cache" / said["cache"]).table.entries)

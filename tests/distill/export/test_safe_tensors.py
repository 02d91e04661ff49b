"""safetensors files that cannot be written."""

import errno
import resource

import numpy as np
import pytest

from distill.export.safe_tensors import write_arrays


@pytest.fixture
def small_files():
    """No file of this process may exceed 4 KiB, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_an_error_that_names_the_file(small_files, tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(OSError, match="File too large") as found:
        write_arrays(path, {"weights": np.zeros(100_000, np.float32)})
    assert (found.value.errno, found.value.filename) == (errno.EFBIG, str(path))

"""Missing rows are handed out once, to whichever process requests them."""

import os

import numpy as np
import pytest

from teachers.row_table import ArrayFile, Claims, RowTable
from teachers.shared_work import SharedWork

CLAIM = 4


class Table(RowTable):
    """A table of 16 rows without its cache."""

    def __init__(self, path):
        if not path.exists():
            np.save(path, np.zeros(16, np.uint32))
        self.path, self.entries = path, np.load(path, mmap_mode="r")

    def enter(self, rows):
        file = ArrayFile(self.path, self.entries)
        file.write(np.array(rows), np.ones(len(rows), np.uint32))
        file.close()


@pytest.fixture
def table(tmp_path):
    return Table(tmp_path / "rows.npy")


@pytest.fixture
def claims(tmp_path):
    found = Claims(tmp_path, CLAIM)
    yield found
    found.close()


def mask(*rows):
    found = np.zeros(16, bool)
    found[list(rows)] = True
    return found


class Elsewhere:
    """Another process that holds the claim of a row until it is released."""

    def __init__(self, folder, row):
        self._go, answer = os.pipe(), os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(self._go[1])
            claims = Claims(folder, CLAIM)
            os.write(answer[1], b"1" if claims.take(row) else b"0")
            os.read(self._go[0], 1)
            os._exit(0)
        assert os.read(answer[0], 1) == b"1"
        for end in (*answer, self._go[0]):
            os.close(end)

    def let_go(self):
        os.close(self._go[1])
        os.waitpid(self._child, 0)


def test_sparse_rows_of_several_claims_come_together(table, claims):
    work = SharedWork(mask(1, 6, 9, 14, 15), table, claims)
    assert work.take().tolist() == [1, 6, 9]
    assert work.take().tolist() == [14, 15]
    assert not work


def test_rows_that_were_computed_meanwhile_are_not_handed_out(table, claims):
    work = SharedWork(mask(0, 1, 8, 9), table, claims)
    table.enter([1, 8, 9])
    assert work.take().tolist() == [0]
    assert work.by_others == 3
    assert not work


def test_rows_that_another_process_has_wait_for_it(table, claims, tmp_path):
    work = SharedWork(mask(1, 2, 12), table, claims)
    other = Elsewhere(tmp_path, 3)  # another row of the first claim, wanted by another view
    assert work.take().tolist() == [12]
    assert work.take().tolist() == []
    assert work
    table.enter([2])
    other.let_go()
    assert work.take().tolist() == [1]
    assert work.by_others == 1
    assert not work


def test_rows_finished_by_another_process_are_counted(table, claims, tmp_path):
    work = SharedWork(mask(1, 2), table, claims)
    other = Elsewhere(tmp_path, 0)
    assert work.take().tolist() == []
    table.enter([1, 2])
    assert work.take().tolist() == []
    assert work.by_others == 2
    assert not work
    other.let_go()

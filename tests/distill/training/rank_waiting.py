"""Two ranks, of which the second waits for the first; run by test_distributed.py.

``torchrun --nproc-per-node 2 rank_waiting.py FOLDER``
"""

import sys
import time
from datetime import timedelta
from pathlib import Path

from curation.errors import UserError
from distill.training import distributed


def slow() -> int:
    time.sleep(4)
    return 7


def refuse() -> None:
    raise UserError("the first rank has found a mistake")


def main() -> None:
    with distributed.process_group(timeout=timedelta(seconds=2)):
        told = [str(distributed.on_first_rank(slow))]
        told.append(str(distributed.only_on_first_rank(distributed.rank)))
        told.append(str(distributed.sum_over_ranks(distributed.rank() + 1)))
        try:
            distributed.on_first_rank(refuse)
        except UserError as error:
            told.append(str(error))
        (Path(sys.argv[1]) / f"{distributed.rank()}.txt").write_text("\n".join(told))


if __name__ == "__main__":
    main()

"""``just soak``: kills the daemon and its jobs at random; exit status 1 if a promise is broken."""

import random
import shutil
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from curation.workspace import Workspace
from distill.daemon import client
from tests.soak.promises import Promises, wait_until_settled
from tests.soak.user import User
from tests.soak.world import PATIENCE, World

ROUNDS = 200
INTERRUPTED = 130
"""Exit status of a shell after SIGINT"""
SETTLED_EVERY = 10
"""Rounds, after which nothing is disturbed until all jobs have ended"""
NAMES = 12
"""Jobs between two such pauses"""
ACTIONS = 8
"""Maximum user commands per round"""


def main(arguments: Sequence[str]) -> int:
    parser = ArgumentParser(prog="just soak", description=__doc__)
    parser.add_argument("rounds", nargs="?", type=int, default=ROUNDS)
    parser.add_argument("seed", nargs="?", type=int, help="of another run, to repeat its dice")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"ROUNDS is {options.rounds}; allowed: 1 and more")
    seed = random.randrange(10**6) if options.seed is None else options.seed
    place = Path(tempfile.mkdtemp(prefix="soak-"))
    sys.stderr.write(f"seed {seed}: {options.rounds} rounds in {place}\n")
    began = time.monotonic()
    soak = Soak(Workspace(place / "workspace"), seed, sys.stderr.write)
    try:
        faults, status = soak.run(options.rounds), 0
    except KeyboardInterrupt:
        faults, status = [], INTERRUPTED
    sys.stdout.write(summary(soak.counts, seed, time.monotonic() - began))
    for fault in faults:
        sys.stdout.write(f"BROKEN {fault}\n")
    if not faults:
        shutil.rmtree(place)
    return 1 if faults else status


class Soak:
    """A user who gives commands while processes are killed, and the promises made."""

    def __init__(self, workspace: Workspace, seed: int, tell: Callable[[str], object]) -> None:
        self.counts: Counter[str] = Counter()
        self._world = World(workspace, self.counts)
        self._promises = Promises(workspace)
        self._user = User(self._promises, counts=self.counts)
        self._seed = seed
        self._tell = tell

    def run(self, rounds: int) -> list[str]:
        """The broken promises, with the round; stops at the first round that breaks one."""
        try:
            for number in range(rounds):
                faults = self._round(number)
                self.counts["rounds"] += 1
                if number % SETTLED_EVERY == SETTLED_EVERY - 1 or number == rounds - 1:
                    faults += self._settle()
                    told = f"{number + 1} of {rounds} rounds, {self.counts['submits']} submits"
                    self._tell(f"{told}, {self.counts['attempts']} attempts\n")
                if faults:
                    return [f"in round {number} of seed {self._seed}: {each}" for each in faults]
            return []
        finally:
            self._world.end()

    def _round(self, number: int) -> list[str]:
        dice = random.Random(f"{self._seed} user {number}")
        if dice.random() < 0.8:
            self._world.wait_for_daemon()
        with self._world.harmed(random.Random(f"{self._seed} harm {number}")):
            for _ in range(dice.randint(2, ACTIONS)):
                name = f"job-{number // SETTLED_EVERY}-{dice.randrange(NAMES)}"
                self._user.act(name, dice)
                time.sleep(dice.uniform(0.0, 0.3))
        return self._promises.broken()

    def _settle(self) -> list[str]:
        """Stop interfering; every job must end and leave no processes."""
        self._world.wait_for_daemon()
        self._user.leave_in_peace()
        faults = [
            f"{job} is stuck"
            for job in wait_until_settled(self._promises, PATIENCE, self._user.give_up_in_vain)
        ]
        faults += self._promises.broken()
        deadline = time.monotonic() + PATIENCE
        while (left := self._world.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        faults += [f"a {what} (pid {process.pid}) is left" for process, what in left]
        self._count_ends()
        return faults

    def _count_ends(self) -> None:
        jobs = client.jobs(self._promises.workspace)
        self.counts["jobs"], self.counts["attempts"] = len(jobs), sum(job.attempt for job in jobs)
        for state, count in Counter(job.state for job in jobs).items():
            self.counts[f"ended: {state}"] = count


def summary(counts: Counter[str], seed: int, seconds: float) -> str:
    lines = [f"{name}: {count:,}" for name, count in sorted(counts.items())]
    return "\n".join([f"seed {seed}, {seconds:.0f} s", *lines, ""])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

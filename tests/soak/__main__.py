"""``just soak``: the daemon and its jobs under random kills; 1 where a promise was broken."""

import random
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from curation.errors import UserError
from curation.workspace import Workspace
from distill.daemon import client, stopping
from distill.daemon.service import Answer
from tests.soak.daemon import check
from tests.soak.promises import Promises, wait_until_settled
from tests.soak.world import PATIENCE, World

ROUNDS = 200
INTERRUPTED = 130
"""As a shell has it of what SIGINT ended"""
SETTLED_EVERY = 10
"""Rounds; then everything is left in peace until all jobs have ended."""
NAMES = 12
"""Jobs from one settling to the next"""
ACTIONS = 8
"""Of the user in a round, at most"""


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
    return 1 if faults else status


class Soak:
    """A user who submits, replaces and cancels, while somebody kills; and what was promised."""

    def __init__(self, workspace: Workspace, seed: int, tell: Callable[[str], object]) -> None:
        self.counts: Counter[str] = Counter()
        self._world = World(workspace, self.counts)
        self._promises = Promises(workspace)
        self._seed = seed
        self._tell = tell

    def run(self, rounds: int) -> list[str]:
        """The promises that were broken, with the round; it ends at the first."""
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
                actions = [self._submit, self._replace, self._cancel]
                (action,) = dice.choices(actions, weights=[5, 1, 1])
                action(name, dice)
                time.sleep(dice.uniform(0.0, 0.3))
        return self._promises.broken()

    def _submit(self, name: str, dice: random.Random, replace: bool = False) -> None:
        known = sorted(self._promises.specs.get(name, ()))
        spec = known[0] if known and not replace else new_spec(name, dice)
        self._promises.asked(name, spec)
        try:
            answer = client.submit(self._promises.workspace, name, spec, replace, check).answer
        except UserError as error:
            self.counts["submits refused" if "exists" in str(error) else "submits lost"] += 1
            return
        self._promises.acknowledged(name, spec)
        self.counts["submits"] += 1
        if answer in (Answer.QUEUED, Answer.AGAIN, Answer.REPLACED):
            self._promises.cancels.discard(name)
            self.counts["replaced"] += answer is Answer.REPLACED

    def _replace(self, name: str, dice: random.Random) -> None:
        self._submit(name, dice, replace=True)

    def _cancel(self, name: str, dice: random.Random) -> None:
        self._promises.cancels.add(name)
        try:
            stopping.cancel(self._promises.workspace, [name])
        except UserError as error:
            self.counts["cancels of nothing" if "no job" in str(error) else "cancels lost"] += 1
            return
        self.counts["cancels"] += 1

    def _settle(self) -> list[str]:
        """Leave all in peace: every job comes to its end, and nothing of it is left."""
        self._world.wait_for_daemon()
        for name in self._waiting():
            self._promises.cancels.add(name)
            stopping.cancel(self._promises.workspace, [name])
        faults = [f"{job} is stuck" for job in wait_until_settled(self._promises, PATIENCE)]
        faults += self._promises.broken()
        deadline = time.monotonic() + PATIENCE
        while (left := self._world.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        faults += [f"a {what} (pid {process.pid}) is left" for process, what in left]
        self._count_ends()
        return faults

    def _waiting(self) -> list[str]:
        """The jobs whose spec lets them end only by a cancel."""
        jobs = client.jobs(self._promises.workspace)
        return [job.name for job in jobs if not job.state.ended and 'end = "wait"' in job.spec]

    def _count_ends(self) -> None:
        jobs = client.jobs(self._promises.workspace)
        self.counts["jobs"], self.counts["attempts"] = len(jobs), sum(job.attempt for job in jobs)
        for state, count in Counter(job.state for job in jobs).items():
            self.counts[f"ended: {state}"] = count


def new_spec(name: str, dice: random.Random) -> str:
    """A spec that no submit had before."""
    end = dice.choice(["done", "done", "fail", "wait"])
    return (
        f'name = "{name}"\nsteps = {dice.randint(1, 4)}\nseconds = {dice.uniform(0, 0.4):.3f}\n'
        f'end = "{end}"\nnumber = {dice.randrange(10**9)}\n'
    )


def summary(counts: Counter[str], seed: int, seconds: float) -> str:
    lines = [f"{name}: {count:,}" for name, count in sorted(counts.items())]
    return "\n".join([f"seed {seed}, {seconds:.0f} s", *lines, ""])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""The soak's user: random commands, and the promises in their answers."""

import random
from collections import Counter
from collections.abc import Callable

from curation.errors import UserError
from distill.daemon import client, stopping
from distill.daemon.job import Job
from distill.daemon.placing import Placing
from distill.daemon.service import QueueEnd
from distill.daemon.states import State
from distill.daemon.submitting import Answer
from tests.soak.daemon import check
from tests.soak.promises import Promises

Action = Callable[[str, random.Random], None]


class User:
    """Commands on the jobs of one workspace; counts failures caused by a dying daemon."""

    def __init__(self, promises: Promises, counts: Counter[str]) -> None:
        self._promises, self._counts = promises, counts
        self._workspace = promises.workspace
        self._actions: dict[Action, int] = {
            self._submit: 10,
            self._replace: 2,
            self._cancel: 2,
            self._pause: 2,
            self._resume: 4,
            self._move: 2,
            self._retry: 1,
            self._drain: 1,
            self._undrain: 4,
        }

    def act(self, name: str, dice: random.Random) -> None:
        """Run one command, on the job ``name`` if the command takes one."""
        (action,) = dice.choices(list(self._actions), weights=list(self._actions.values()))
        action(name, dice)

    def leave_in_peace(self) -> None:
        """Let all jobs end: resume or cancel those that wait for this user."""
        client.undrain(self._workspace)
        self._promises.undrained()
        for job in self._unfinished():
            if 'end = "wait"' in job.spec:
                self._cancelled([job.name])
            elif job.held:
                self._promises.resumed(job.name)
                client.resume(self._workspace, [job.name])

    def give_up_in_vain(self) -> bool:
        """Cancel jobs that wait for failed or cancelled ones; returns whether there were any."""
        found = client.find_reports(self._workspace, [job.name for job in self._unfinished()])
        if names := [job.name for job in found if job.in_vain]:
            self._cancelled(names)
            self._counts["in vain"] += len(names)
        return bool(names)

    def _unfinished(self) -> list[Job]:
        return [job for job in client.jobs(self._workspace) if not job.state.ended]

    def _submit(self, name: str, dice: random.Random, replace: bool = False) -> None:
        known = sorted(self._promises.specs.get(name, ()))
        spec = known[0] if known and not replace else new_spec(name, dice)
        # Only after earlier names, which avoids cycles.
        others = sorted(other for other in self._promises.specs if other < name)
        after = dice.sample(others, min(len(others), dice.choice([0, 0, 0, 1, 2])))
        priority, hold = dice.choice([None, None, -1, 0, 1]), dice.random() < 0.1
        placing = Placing(priority=priority, hold=hold, after=tuple(after))
        self._promises.asked(name, spec)
        try:
            asked = (self._workspace, name, spec, replace, check, placing)
            answer = client.submit(*asked).answer
        except UserError as error:
            self._counts["submits refused" if "exists" in str(error) else "submits lost"] += 1
            return
        self._counts["submits"] += 1
        begun = answer in (Answer.QUEUED, Answer.AGAIN, Answer.REPLACED)
        self._promises.acknowledged(name, spec, after if begun else None)
        if begun:
            self._promises.cancels.discard(name)
            self._counts["replaced"] += answer is Answer.REPLACED
            self._counts["after others"] += bool(after)

    def _replace(self, name: str, dice: random.Random) -> None:
        self._submit(name, dice, replace=True)

    def _cancel(self, name: str, dice: random.Random) -> None:
        self._tried("cancels", lambda: self._cancelled([name], dice.random() < 0.3))

    def _cancelled(self, names: list[str], force: bool = False) -> None:
        self._promises.cancels.update(names)
        stopping.cancel(self._workspace, names, force)

    def _pause(self, name: str, dice: random.Random) -> None:
        def pause() -> None:
            (job,) = stopping.pause(self._workspace, [name])
            if job.held and job.state is State.QUEUED:
                self._promises.paused.add(name)

        self._tried("pauses", pause)

    def _resume(self, name: str, dice: random.Random) -> None:
        self._promises.resumed(name)
        self._tried("resumes", lambda: client.resume(self._workspace, [name]))

    def _move(self, name: str, dice: random.Random) -> None:
        other = dice.choice(sorted(self._promises.specs) or [name])
        to = dice.choice([*QueueEnd, None])
        asked = (self._workspace, name, to, None if to else other)
        self._tried("moves", lambda: client.move(*asked))

    def _retry(self, name: str, dice: random.Random) -> None:
        spec = next(iter(self._promises.specs.get(name, ())), "")
        self._promises.asked(name, spec)
        self._tried("retries", lambda: client.retry(self._workspace, [name]))

    def _drain(self, name: str, dice: random.Random) -> None:
        self._tried("drains", lambda: client.drain(self._workspace))
        self._promises.drained()

    def _undrain(self, name: str, dice: random.Random) -> None:
        self._promises.undrained()
        self._tried("undrains", lambda: client.undrain(self._workspace))

    def _tried(self, what: str, command: Callable[[], object]) -> None:
        """Count the command as done, refused because of the job's state, or unanswered."""
        try:
            command()
        except UserError as error:
            lost = "does not answer" in str(error)
            self._counts[f"{what} {'lost' if lost else 'refused'}"] += 1
            return
        self._counts[what] += 1


def new_spec(name: str, dice: random.Random) -> str:
    """A spec that was not submitted before."""
    end = dice.choice(["done", "done", "fail", "wait"])
    return (
        f'name = "{name}"\nsteps = {dice.randint(1, 4)}\nseconds = {dice.uniform(0, 0.4):.3f}\n'
        f'end = "{end}"\nnumber = {dice.randrange(10**9)}\n'
        f"[resources]\ngpus = {dice.choice([0, 1, 1, 2])}\n"
    )

"""What the runner watches while a job runs, and why it would stop it before worse comes.

The daemon may be dead meanwhile, so nothing of this is asked of it. A stop is a TERM: the job
writes a checkpoint, and the exit record says why it was stopped.
"""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from distill.daemon.cgroup import memory_group
from distill.daemon.demand import resources_in
from distill.daemon.records import Stop
from distill.daemon.room import least_room, lowest_room, newest_checkpoint_bytes, room_of
from distill.daemon.stalls import in_minutes, signs_of_life
from distill.daemon.supervision import StopRequest, note
from distill.resources import Resources, in_gigabytes

LOOK_SECONDS = 1.0
"""Between two looks of the runner."""
FULL = 0.97
"""Of the memory that there is: the rest is for the checkpoint."""
_FAMILY_SECONDS = 5.0
"""Between two searches for new processes: each reads the whole process table."""


class Guards:
    """Those of one attempt; ``look`` is called about once in ``LOOK_SECONDS``."""

    def __init__(
        self, run: Path, resources: Resources, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._run = run
        self._resources = resources
        self._clock = clock
        self._began = clock()
        self._memory = _Memory(resources.memory_bytes, clock)
        self._seen: object = None
        self._seen_at = self._began

    def look(self) -> Stop | None:
        """Why the job has to be stopped now; ``None`` where it may go on."""
        guards = (self.disk, self._memory.look, self._time, self._stall)
        return next((stop for guard in guards if (stop := guard()) is not None), None)

    def disk(self) -> Stop | None:
        """Where the disk has hardly room for another checkpoint."""
        place, checkpoint = room_of(self._run), newest_checkpoint_bytes(self._run)
        free = place.free
        if free >= lowest_room(place) + checkpoint:
            return None
        wanted = least_room(place) + 2 * checkpoint
        reason = f"the disk of {self._run} had {in_gigabytes(free)} left"
        return Stop(why="disk", reason=reason, disk=wanted)

    @property
    def killed_for_memory(self) -> bool:
        """Whether the kernel has ended processes meanwhile, for want of memory."""
        return self._memory.kills_grew

    def _time(self) -> Stop | None:
        seconds = self._resources.seconds
        if seconds is None or self._clock() - self._began < seconds:
            return None
        reason = f"it ran for {self._resources.hours:g} h, its resources.hours"
        return Stop(why="time", reason=reason, fail=self._resources.on_time == "fail")

    def _stall(self) -> Stop | None:
        minutes = self._resources.stall_minutes
        if minutes is None or self._resources.on_stall != "restart":
            return None
        if (seen := signs_of_life(self._run)) != self._seen:
            self._seen, self._seen_at = seen, self._clock()
        if self._clock() - self._seen_at < minutes * 60:
            return None
        return Stop(why="stall", reason=f"it showed no sign of life for {in_minutes(minutes)}")


class _Memory:
    """That of the job's processes against what it asked for, and of their control group."""

    def __init__(self, asked: int | None, clock: Callable[[], float]) -> None:
        self._asked = asked
        self._clock = clock
        self._group = memory_group()
        self._kills = 0 if self._group is None else self._group.kills
        self._family: list[object] = []
        self._searched_at = -_FAMILY_SECONDS

    @property
    def kills_grew(self) -> bool:
        return self._group is not None and self._group.kills > self._kills

    def look(self) -> Stop | None:
        for used, limit in self._measured():
            if used >= FULL * limit:
                told = f"it used {in_gigabytes(used)} of {in_gigabytes(limit)} of memory"
                return Stop(why="memory", reason=told)
        return None

    def _measured(self) -> Iterator[tuple[int, int]]:
        """What is used and the limit of it, for each limit that there is."""
        limit = None if self._group is None else self._group.limit
        if self._asked is None and limit is None:
            return
        own = self._own()
        if self._asked is not None:
            yield own, self._asked
        # Others may be in the group: the one that uses the most has to give way.
        if self._group is not None and limit is not None and own > limit / 2:
            yield self._group.used, limit

    def _own(self) -> int:
        import psutil

        from distill.pipeline.peak_memory import private_bytes

        if self._clock() - self._searched_at >= _FAMILY_SECONDS:
            self._searched_at = self._clock()
            self._family = psutil.Process().children(recursive=True)
        return sum(map(private_bytes, self._family))


class GuardWatch:
    """Ends the job, with ``grace`` seconds for a checkpoint, where a guard says so."""

    def __init__(self, guards: Guards, stop: StopRequest, grace: float) -> None:
        self.stopped: Stop | None = None
        self._guards, self._stop, self._grace = guards, stop, grace
        self._failed = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="guards", daemon=True)

    def __enter__(self) -> "GuardWatch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def killed_for_memory(self) -> bool:
        return self._guards.killed_for_memory

    def look_at_end(self) -> None:
        """A disk may be full between two looks; the job may have failed by that."""
        self._ask(self._guards.disk)

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            if self._ask(self._guards.look):
                assert self.stopped is not None
                note(f"stopping the job: {self.stopped.reason}")
                self._stop.end_job()
                if not self._over.wait(self._grace):
                    self._stop.kill()
                return

    def _ask(self, guard: Callable[[], Stop | None]) -> bool:
        """Whether there is a reason now. A guard that fails is no reason to leave the job alone."""
        if self.stopped is not None or self._stop.asked:
            return False
        try:
            self.stopped = guard()
        except Exception as error:
            if not self._failed:
                note(f"cannot check whether the job has to be stopped: {error!r:.300}")
            self._failed = True
        return self.stopped is not None


def guards_of(run: Path, spec: str) -> Guards:
    """Those that the spec of the job asks for, which is no more than a text here."""
    return Guards(run, resources_in(spec))

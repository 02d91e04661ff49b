"""The permanent progress of a job, which an interruption does not undo."""

from dataclasses import dataclass
from pathlib import Path

from distill.run_directory import CHECKPOINTS, read_progress, read_steps
from distill.training.checkpoints import steps_saved


@dataclass(frozen=True, kw_only=True)
class Made:
    """``iterations`` of its trainings up to their newest checkpoints, and ``images`` embedded."""

    iterations: int = 0
    images: int = 0

    def beyond(self, before: "Made") -> bool:
        return self.iterations > before.iterations or self.images > before.images

    def up_to(self, other: "Made") -> dict[str, int]:
        """The higher number of each."""
        return {what: max(count, getattr(other, what)) for what, count in vars(self).items()}


NOTHING_MADE = Made()


def progress_made(run: Path) -> Made:
    """The progress according to the run folder; none if it cannot be read."""
    try:
        trainings = run.glob(f"{CHECKPOINTS}/*/{CHECKPOINTS}")
        iterations = sum(max(steps_saved(each), default=0) for each in trainings)
    except OSError:  # something was removed at this moment
        return Made()
    progress, embedding = read_progress(run), {"embed"}
    embedding &= {str(step.get("name")) for step in read_steps(run) if step.get("kind") == "embed"}
    images = progress["done"] if progress and progress.get("step") in embedding else 0
    return Made(iterations=min(iterations, 1 << 60), images=images)

"""Halving of micro-batches after a job ran out of memory.

Each batch is processed in twice as many micro-batches. The images, the order of batches and the
step identity do not change, so finished steps and checkpoints remain valid. As with a different
number of ranks, batch normalisation and losses that compare images see fewer images at a time.
"""

from distill.notices import Notice
from distill.spec_errors import SpecError
from distill.training.config import SamplerSettings, TrainSettings
from distill.training.shares import images_together


def halved(settings: TrainSettings, sampler: SamplerSettings, ranks: int) -> TrainSettings | None:
    """``settings`` with twice the accumulation; ``None`` if batches cannot be divided further."""
    half = settings.model_copy(update={"accumulate": 2 * settings.accumulate})
    try:
        half.check_shares(ranks)
        sampler.check_shares(half.batch_size, ranks * half.accumulate)
    except SpecError:
        return None
    return half if images_together(half, ranks) > 2 else None


def notice_of(before: TrainSettings, after: TrainSettings | None, reason: str) -> Notice:
    """The notice about the reaction to running out of memory."""
    cause = reason.removeprefix("interrupted: ")
    if after is None:
        text = f"the batch cannot be halved to save memory ({cause})"
    else:
        text = (
            f"batches are now split into {after.accumulate} micro-batches instead of "
            f"{before.accumulate} to save memory ({cause}); batch normalisation and losses that "
            f"compare images see half as many images at a time"
        )
    return Notice("halved batches", text)

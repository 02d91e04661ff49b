"""Half the images at a time: what a job does after it ran out of memory.

Each batch is taken in twice as many micro-batches. The images and the order of the batches stay,
and so does what a step is called: finished steps and checkpoints are found. As on another number of
ranks, batch normalisation and losses that compare the images of a batch see fewer at a time.
"""

from distill.notices import Notice
from distill.spec_errors import SpecError
from distill.training.config import SamplerSettings, TrainSettings
from distill.training.shares import images_together


def halved(settings: TrainSettings, sampler: SamplerSettings, ranks: int) -> TrainSettings | None:
    """``settings`` with twice the accumulation; ``None`` where batches cannot be cut so."""
    half = settings.model_copy(update={"accumulate": 2 * settings.accumulate})
    try:
        half.check_shares(ranks)
        sampler.check_shares(half.batch_size, ranks * half.accumulate)
    except SpecError:
        return None
    return half if images_together(half, ranks) > 2 else None


def notice_of(before: TrainSettings, after: TrainSettings | None, reason: str) -> Notice:
    """What is done about the want of memory, for everybody who sees the numbers."""
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

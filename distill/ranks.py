"""Which of the processes that train together this one is."""

import torch.distributed as dist


def this_rank() -> int:
    """The number of this process, from 0; 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def rank_count() -> int:
    """How many processes train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1

"""The rank of this process among those that train together, and their number."""

import torch.distributed as dist


def rank() -> int:
    """The number of this process, from 0; 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1

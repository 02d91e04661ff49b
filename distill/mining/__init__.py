"""Choosing the triplets of a batch to learn from; pure functions of embeddings and labels."""

from distill.mining.batch_hard import batch_hard
from distill.mining.semi_hard import Choice, semi_hard, semi_hard_centres
from distill.mining.triplets import Triplets, from_cosines, statistics

__all__ = [
    "Choice",
    "Triplets",
    "batch_hard",
    "from_cosines",
    "semi_hard",
    "semi_hard_centres",
    "statistics",
]

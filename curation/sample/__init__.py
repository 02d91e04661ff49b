"""Synthetic faces with known faults, drawn from a seed, for the demo and the tests."""

from curation.sample.dataset import write_sample

__all__ = ["write_sample"]

"""Synthetic faces with known faults, drawn from a seed: what the demo and the tests run on."""

from curation.sample.dataset import write_sample

__all__ = ["write_sample"]

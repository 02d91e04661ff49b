"""Reviewing flagged cases: the cases, the durable log of decisions, and the outcome."""

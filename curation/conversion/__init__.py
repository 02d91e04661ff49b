"""Converts a source into a store: reading, checking, writing and resuming."""

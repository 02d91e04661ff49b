"""Bundles: the student with everything needed to deploy it, written and read."""

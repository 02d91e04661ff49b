"""Bundles: write and read a student with everything needed to deploy it."""

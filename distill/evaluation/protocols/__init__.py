"""Readers for published evaluations in their own formats, one per file; `protocol` finds them."""

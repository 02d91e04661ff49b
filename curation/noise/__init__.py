"""Finds noise in face data sets from embeddings: checks, their findings, and decisions on them."""

"""Turns photographs into aligned faces: read, assessed, cut out, and recorded with their origin."""

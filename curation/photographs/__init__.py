"""Photographs to aligned faces: read, judged, cut out, and kept with where each came from."""

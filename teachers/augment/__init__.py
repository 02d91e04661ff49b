"""Augmented views: modified images of the same faces, computed whenever they are needed."""

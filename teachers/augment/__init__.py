"""Augmented views: other pictures of the same faces, made anew wherever they are wanted."""

"""Published evaluations in their own files, one reader a file; `protocol` finds them."""

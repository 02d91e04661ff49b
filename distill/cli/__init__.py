"""The commands `curate` and `distill`. Heavy imports happen inside the commands."""

"""The pages, one file per subject; `router(site)` returns its routes."""

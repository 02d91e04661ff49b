"""Recipes: the TOML files here, and what runs them."""

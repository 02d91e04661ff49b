"""The recipes (TOML files), and the code that runs them."""

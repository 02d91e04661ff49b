"""A source into a store: what is read, checked, written and resumed."""

"""A first job spec for a data set: facts of it and of the machine, rules, and the text."""

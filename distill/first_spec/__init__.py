"""A first job spec for a data set: facts about it and the machine, rules, and the text."""

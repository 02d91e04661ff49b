"""What is wrong in a face data set, told by embeddings: checks, what they found, what to do."""

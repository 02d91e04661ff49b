"""What a conversion takes: a file for each kind of source, behind one protocol."""

"""Sources that a conversion can read: one file per kind, all behind one protocol."""

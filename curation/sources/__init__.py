"""What a conversion takes: record files, folders and lists, behind one protocol."""

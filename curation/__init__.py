"""The data set in order: RecordIO in, an LMDB store, views, recipes. Never imports torch."""

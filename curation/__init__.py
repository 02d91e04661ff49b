"""Data curation: RecordIO in, an LMDB store, views, recipes. Never imports torch."""

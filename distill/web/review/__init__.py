"""The review of flagged identities as a page: what it is given, and what it sends."""

"""The review page for flagged identities: the data it receives and sends."""

"""``curate report``: one HTML page that shows what was kept, what was flagged, and why."""

"""``curate report``: one HTML page that shows which images were kept, which were
flagged, and why.
"""

"""Charts without a library: what is drawn of one, and the same as SVG and as PNG."""

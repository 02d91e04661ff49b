"""Charts without a plotting library: drawn as marks, and rendered as SVG or PNG."""

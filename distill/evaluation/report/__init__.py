"""The page about networks on sets: curves, histograms, the worst pairs as faces, figures."""

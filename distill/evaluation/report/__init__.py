"""The evaluation page: figures, curves, histograms and pictures of the worst pairs."""

"""The evaluation page: figures, curves, histograms and images of the worst pairs."""

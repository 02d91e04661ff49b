"""Teachers: large networks, third-party ONNX files, and the cache of their embeddings."""

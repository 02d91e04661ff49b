"""Those who know: big networks, foreign ONNX files, and the cache of what they said."""

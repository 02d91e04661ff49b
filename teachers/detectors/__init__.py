"""Third-party face detectors: ONNX files that find faces and five landmarks in photographs."""

"""Face detectors of others: ONNX files that find faces and their five points in a photograph."""

"""Export of a trained checkpoint to ONNX and timm formats (stage export)."""

"""What each ONNX operator is in PyTorch; one file for each kind."""

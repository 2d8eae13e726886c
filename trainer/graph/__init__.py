"""An encoder as an ONNX graph, and graphs that are kept."""

"""Export of a model folder to transformers, sentence-transformers or ONNX, each with a model card."""

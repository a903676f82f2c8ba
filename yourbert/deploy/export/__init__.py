"""A tailored model in the forms of others: transformers, sentence-transformers, ONNX; each with a card about it."""

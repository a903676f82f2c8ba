"""A training step captured as a CUDA graph: splits resident on the device, batch shapes in buckets, the stepper."""

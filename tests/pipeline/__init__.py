"""The pipeline as a user runs it, on a copy of the project that is small enough to train in seconds."""

"""The bundled corpora: synthetic, deterministic, and hard for a bag-of-words model."""

"""The bundled corpora: synthetic, deterministic, and hard for anything that only counts words."""

"""Tests: properties, equalities with a reference, and faults."""

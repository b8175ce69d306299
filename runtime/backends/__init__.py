"""Backends: what runs one step of a bundle and owns the memory of its state."""

"""Backends, each of which runs one step of a bundle and owns the memory of its state."""

"""Recordings: a series of readings on a regular time grid, and its file formats; imports nothing by itself."""

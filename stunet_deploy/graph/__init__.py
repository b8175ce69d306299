"""Sensor graphs: their files, and their preparation for the model; imports nothing, so files are read without scipy."""

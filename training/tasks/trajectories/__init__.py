"""Pedestrian trajectories."""

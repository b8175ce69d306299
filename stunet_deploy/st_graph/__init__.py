"""Spatio-temporal graphs of a Structural-RNN, their files, and those that ship with the package."""

"""Measuring a bundle on the machine that will run it: latency, cold start, memory, energy, difference of two runs."""

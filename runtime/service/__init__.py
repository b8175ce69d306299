"""Streams as a service: sources, sinks and what keeps them running for months."""

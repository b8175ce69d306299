"""Streams as a service: sources, sinks, a status page, and what keeps them running for months."""

"""The status page of a service, and its endpoints for programs."""

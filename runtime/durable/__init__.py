"""A stream that outlives its process: journal, snapshots, recovery."""

"""The vocabulary every room shares; importing it imports nothing else."""

"""What can go wrong on a controller, done to a stream again and again; ``benchmarks/faults.py`` runs it."""

"""Human motion: poses to come."""

"""Human-object activities."""

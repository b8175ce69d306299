"""A driver's next manoeuvre."""

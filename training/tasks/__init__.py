"""Further tasks of a Structural-RNN: human motion, crowds, a driver's next manoeuvre, human-object activities."""

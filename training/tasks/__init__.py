"""What else a Structural-RNN forecasts: human motion, crowds, a driver's next manoeuvre, human-object activities."""

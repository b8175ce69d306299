"""ST-UNet: graph-convolutional GRUs in a U over space and time."""

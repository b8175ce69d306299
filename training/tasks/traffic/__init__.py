"""Traffic, with a Structural-RNN beside ST-UNet."""

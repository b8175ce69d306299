"""From a bundle to forecasts, one interval at a time; never imports torch."""

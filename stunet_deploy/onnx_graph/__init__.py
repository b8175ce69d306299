"""Step graphs as they come from outside: read strictly and bounded before an inference engine sees them."""

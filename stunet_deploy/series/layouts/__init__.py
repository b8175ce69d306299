"""The layouts of recordings: how each is recognised, and read into a table."""

"""The models, in torch, each with initial_lines, step and forward."""

"""Structural-RNN: recurrent networks that the nodes and edges of a type share."""

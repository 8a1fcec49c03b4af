"""Tensor functions compiled as one graph."""

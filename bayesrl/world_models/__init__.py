"""Posteriors over dynamics, and planning in worlds drawn from them."""

"""Environments: small hard ones, in NumPy and in batched torch."""

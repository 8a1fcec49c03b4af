"""Vectorized environments: natively, in one process, in workers, or in batched torch."""

"""Small, hard environments in NumPy and in batched PyTorch."""

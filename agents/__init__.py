"""Agents, each of which implements `act`, `observe` and `learn`."""

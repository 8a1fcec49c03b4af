"""Trained agents as policies: called, exported, watched."""

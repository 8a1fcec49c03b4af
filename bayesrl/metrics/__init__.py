"""Scores of predictions, diagnostics of posteriors, statistics over runs."""

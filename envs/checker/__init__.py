"""Checks of an environment against the contract of Gymnasium."""

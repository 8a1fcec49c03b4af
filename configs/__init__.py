"""Hydra's configuration files, one group a folder."""

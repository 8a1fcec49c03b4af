"""Agents: `act`, `observe`, `learn`, each on one page."""

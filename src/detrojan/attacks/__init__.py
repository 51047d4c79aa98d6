"""Attacks: make test material."""

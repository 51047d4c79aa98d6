"""Trainers: train on suspect data."""

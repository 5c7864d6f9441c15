"""Rows to a conditioned model."""

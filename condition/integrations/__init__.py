"""Tuned models inside other libraries."""

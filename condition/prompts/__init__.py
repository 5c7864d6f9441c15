"""Inputs to messages. No torch here."""

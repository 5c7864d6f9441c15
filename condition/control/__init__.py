"""Limits on what may come next: grammars, JSON schemas, regular expressions, labels, banned and required words."""

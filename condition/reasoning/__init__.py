"""Several calls to one answer."""

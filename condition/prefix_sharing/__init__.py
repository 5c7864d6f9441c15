"""A shared prompt is computed once: packing, attention, log-probabilities, and the check that they are exact."""

"""What a model does, in numbers with intervals."""

"""A second look at texts: word lists, classifiers and models say what may pass, before a model, after it, in data."""

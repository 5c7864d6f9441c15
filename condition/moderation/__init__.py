"""Whether a text may pass: word lists, classifiers, models that judge, and guards around models and chains."""

"""The answers that were learned: designs, gradient estimators, outer-training, shipped weights."""

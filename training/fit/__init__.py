"""Fitting a Keras model: one loop, its options, its files, and what makes it faster."""

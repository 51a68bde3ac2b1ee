"""Telling classes apart: images in, a logit for each class out."""

"""Hydra configuration groups; their schemas live beside the code that they configure."""

"""Hydra configuration of the applications that a device runs.

A root of its own: what is a file to them (`model=slim.tflite`) is a configuration group to the pipeline.
"""

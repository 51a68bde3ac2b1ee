"""Latency on other machines than this one, measured there or predicted: what runs on a developer's machine."""

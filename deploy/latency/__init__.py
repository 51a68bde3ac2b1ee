"""Latency, measured the same way everywhere and written as one record."""

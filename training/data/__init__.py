"""Aligned faces with identity labels, and the verification protocols that evaluate a recognizer."""

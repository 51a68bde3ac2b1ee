"""Aligned faces with identity labels, and the verification protocols that judge a recognizer."""

"""A camera at work: where frames come from, who is in them, and where the answers go."""

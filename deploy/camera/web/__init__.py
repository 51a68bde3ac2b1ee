"""The camera's web page: what it sees, who is in it, how fast it is, and whom it knows."""

"""What makes releases: keys, the TUF repository and its signatures."""

"""What takes releases: the TUF client, two slots, the trial of a release and its health window."""

"""What models are for: the seam between stages and tasks, and a folder for each task."""

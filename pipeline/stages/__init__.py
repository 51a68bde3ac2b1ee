"""The stages, a file each: their function is called `run`."""

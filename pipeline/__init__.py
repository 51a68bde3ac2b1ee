"""The stages, in what order they run, what is already done; and the report."""

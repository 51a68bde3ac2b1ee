"""The report stage: what a run found, as a page."""

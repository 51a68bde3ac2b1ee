"""Programs beside the pipeline: python -m training.tools.NAME."""

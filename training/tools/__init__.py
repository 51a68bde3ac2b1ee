"""Programs beside the pipeline: python -m slimcam.training.tools.NAME."""

"""Data, models, losses, fitting and verification metrics: everything that learns (Keras 3, any backend)."""

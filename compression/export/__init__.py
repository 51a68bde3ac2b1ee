"""TensorFlow Lite files of models."""

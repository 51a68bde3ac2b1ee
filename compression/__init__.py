"""A Keras model in, a smaller one out, and its TFLite file. Knows no task, and never imports `training`."""

"""A Keras model in, a smaller one out; TFLite files, and the proof that they are good."""

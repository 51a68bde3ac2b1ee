"""Which channels of a Keras 3 model go, and cutting them out."""

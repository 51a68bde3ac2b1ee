"""From a Keras 3 model to one that is trained on as its int8 version computes."""

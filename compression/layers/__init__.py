"""The table of layer facts: what pruning, cost, equalization and the door to Keras 2 know of each kind of layer."""

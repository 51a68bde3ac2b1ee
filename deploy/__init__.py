"""Everything a device runs. Never imports TensorFlow, Keras, `training` or `compression`."""

"""The normal form: an equivalent flat model in few kinds of layers, which pruning and quantization both understand."""

"""The network of a classifier."""

from __future__ import annotations

from typing import Any

from slimcam.training.tasks.backbone import adopt_weights, features_of, is_whole_model, model_name
from slimcam.training.tasks.classification.config import ClassifierConfig


def classifier(config: ClassifierConfig, classes: int) -> Any:
    """Builds a classifier: `(N, size, size, 3)` pixels as its backbone reads them to logits, `(N, classes)`.

    There is no softmax in it: the order of the classes is that of the logits, and int8 softmax has steps of 1/256.

    Raises:
        ValueError: as for `features_of`, or weights of another classifier.
        FileNotFoundError: a weights or model file that does not exist.
    """
    import keras

    features = features_of(config)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool")(features.output)
    if config.dropout:
        x = keras.layers.Dropout(config.dropout, name="dropout")(x)
    # A convolution, not a Dense layer: its weights are quantized per channel.
    x = keras.layers.Conv2D(classes, 1, name="logits_conv")(x)
    model = keras.Model(features.input, keras.layers.Flatten(name="logits")(x), name=model_name(config.backbone))
    if is_whole_model(config.weights):
        adopt_weights(model, config.weights)
    return model

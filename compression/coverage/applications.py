"""The models of `keras.applications`."""

from __future__ import annotations


def constructors() -> list[str]:
    """Names of the models in `keras.applications`."""
    import keras

    return [name for name in dir(keras.applications) if name[0].isupper()]

"""Errors that a caller may want to tell apart. Each is a `ValueError` with a message for users."""

from __future__ import annotations


class CompressionError(ValueError):
    """A model, plan or file that compression cannot work with."""


class UntraceableModelError(CompressionError):
    """A model that does not show its graph: subclassed, not built, or with a model for a layer."""


class UnsupportedLayerError(CompressionError):
    """A layer or operation that cannot be rebuilt or quantized, or whose cost cannot be counted."""


class PlanError(CompressionError):
    """A pruning plan that does not apply."""


class DamagedPlanError(PlanError):
    """A file or text that holds no sound pruning plan."""


class OtherModelError(PlanError):
    """A pruning plan for another model."""


class ConversionError(CompressionError):
    """A model that TensorFlow Lite cannot take, or not in int8 throughout."""

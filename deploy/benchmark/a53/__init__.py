"""Latency prediction on an emulated Cortex-A53: slimcam's device code runs on an emulated ARM, and what it executes is
timed by a model of the processor. `docs/a53.md` describes the model and its errors."""

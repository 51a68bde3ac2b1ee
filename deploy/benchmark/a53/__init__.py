"""A Cortex-A53 that is not there: slimcam's device code runs on an emulated ARM, and what it executes is timed by a
model of the processor. `docs/a53.md` tells how, and how far the figures are to be trusted."""

"""Models on the device: what bundles describe, the TFLite runtimes, and what goes in and out."""

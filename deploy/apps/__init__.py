"""The console scripts of a device."""

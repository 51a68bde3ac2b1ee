"""Where the camera tells what it sees: a window, a video file, JSON lines, MQTT, Prometheus. Any set of them."""

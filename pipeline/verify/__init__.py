"""`slimcam-verify`: recognizers of any format side by side on the same faces."""

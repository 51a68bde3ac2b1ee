"""Classes to tell apart: folders of images, and drawn road signs."""

"""Classes to tell apart: folders of images, drawn road signs and drawn digits."""

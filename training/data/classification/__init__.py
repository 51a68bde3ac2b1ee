"""Classes to tell apart: folders of images, rendered road signs and rendered digits."""

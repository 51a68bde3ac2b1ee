"""A window with what the camera sees."""

from __future__ import annotations

import os
import sys

import cv2

from slimcam.deploy.camera.outputs.output import Stop
from slimcam.deploy.camera.overlay import annotated
from slimcam.deploy.types import Notice, View

TITLE = "slimcam"
_ESCAPE = 27


class Window:
    """Shows views in a window; `q`, Escape or closing it ends the camera.

    Raises:
        RuntimeError: this OpenCV has no windows, or there is no display.
    """

    def __init__(self) -> None:
        # Without a display, OpenCV's Qt ends the whole process instead of raising.
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise RuntimeError("there is no display for a window; log in at one, or take another output")
        try:
            cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        except cv2.error as error:
            raise RuntimeError(
                "this OpenCV has no windows; "
                "pip uninstall opencv-python-headless && pip install opencv-python, or take another output"
            ) from error
        self._sized = False

    def show(self, view: View) -> None:
        """See `Output`.

        Raises:
            Stop: the user wants to end.
        """
        if not self._sized:
            cv2.resizeWindow(TITLE, *view.frame.image.shape[1::-1])
            self._sized = True
        cv2.imshow(TITLE, cv2.cvtColor(annotated(view.frame.image, view), cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1) & 0xFF
        if key in (ord("q"), _ESCAPE) or cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
            raise Stop("the window was closed")

    def notice(self, notice: Notice) -> None:
        """See `Output`: there is nothing to show."""

    def close(self) -> None:
        """See `Output`."""
        try:
            cv2.destroyWindow(TITLE)
        except cv2.error:
            return  # its user closed it
        cv2.waitKey(1)  # windows vanish when events are looked at

"""Serves a bouncing ball as H.264 at rtsp://127.0.0.1:PORT/live, for tests; needs GStreamer's RTSP server.

Run by the Python that the distribution's `python3-gi` belongs to: `/usr/bin/python3 small_rtsp_server.py PORT`, with a
JPEG file after it for that picture in place of the ball. Says `ready` when it listens.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402  # the versions come first

Gst.init(None)
for element in ("x264enc", "rtph264pay", "videotestsrc"):
    if Gst.ElementFactory.find(element) is None:
        sys.exit(f"GStreamer lacks {element}")
server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory(shared=True)
source = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1"
if len(sys.argv) > 2:
    source = (
        f"filesrc location={sys.argv[2]} ! jpegdec ! videoconvert ! imagefreeze is-live=true ! "
        "video/x-raw,format=I420,framerate=15/1"
    )
factory.set_launch(
    f"( {source} ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 "
    "! rtph264pay name=pay0 config-interval=1 )"
)
server.get_mount_points().add_factory("/live", factory)
if not server.attach(None):
    sys.exit(f"port {sys.argv[1]} is taken")
print("ready", flush=True)
GLib.MainLoop().run()

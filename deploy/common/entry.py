"""The console scripts of a device, light enough that Ctrl-C is silent from the first moment on.

Python prints a traceback for a Ctrl-C that comes while modules are loaded, and loading those of an application takes up
to a second. So this module loads nothing before it has said what Ctrl-C means.
"""

import os
import signal
from importlib import import_module

INTERRUPTED = 130

_loading = False


def start(module: str) -> None:
    """Loads a module of an application and runs its `main`; Ctrl-C until it begins its work is silent, exit code 130.

    Args:
        module: Dotted name.
    """
    global _loading

    def end(*_: object) -> None:
        # Not an exception: libraries that are half loaded would make something else of it.
        os._exit(INTERRUPTED)

    # A shell starts what it runs in the background with SIGINT ignored, which is to stay so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)
        _loading = True
    import_module(module).main()


def begin() -> None:
    """Called by an application whose work begins: from now on Ctrl-C is an exception, as usual."""
    global _loading
    if _loading:
        _loading = False
        signal.signal(signal.SIGINT, signal.default_int_handler)


def camera_script() -> None:
    start("slimcam.deploy.apps.camera")


def faces_script() -> None:
    start("slimcam.deploy.apps.faces")


def benchmark_script() -> None:
    start("slimcam.deploy.benchmark.cli")


def ota_script() -> None:
    start("slimcam.deploy.apps.ota")

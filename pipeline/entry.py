"""The console scripts of a developer's machine, see `slimcam.deploy.common.entry`."""

from slimcam.deploy.common.entry import start


def main() -> None:
    start("slimcam.pipeline.cli")


def verify_script() -> None:
    start("slimcam.pipeline.verify.cli")


def align_script() -> None:
    start("slimcam.training.tools.align_faces")

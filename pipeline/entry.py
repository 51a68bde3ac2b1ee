"""The console scripts of the pipeline, see `slimcam.deploy.common.entry`."""

from slimcam.deploy.common.entry import start


def main() -> None:
    start("slimcam.pipeline.cli")


def verify_script() -> None:
    start("slimcam.pipeline.verify.cli")

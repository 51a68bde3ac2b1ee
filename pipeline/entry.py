"""The console script of the pipeline, see `slimcam.deploy.common.entry`."""

from slimcam.deploy.common.entry import start


def main() -> None:
    start("slimcam.pipeline.cli")

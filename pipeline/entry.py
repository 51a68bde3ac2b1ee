"""The console script of the pipeline, see `deploy.common.entry`."""

from deploy.common.entry import start


def main() -> None:
    start("pipeline.cli")

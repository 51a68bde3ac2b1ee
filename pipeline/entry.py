"""The console script of the pipeline, see `deploy.entry`."""

from deploy.entry import start


def main() -> None:
    start("pipeline.cli")

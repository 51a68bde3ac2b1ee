"""`python -m slimcam.compression.coverage quantize|prune|examples --json FILE`, or `quantizers`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from slimcam.compression.coverage import prune, quantize, quantizers


def main(arguments: Sequence[str] | None = None) -> None:
    """Hands the rest of the command line to the part that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m slimcam.compression.coverage", description=__doc__, add_help=False)
    parser.add_argument("what", choices=["quantize", "prune", "examples", "quantizers"])
    known, rest = parser.parse_known_args(arguments)
    if known.what == "prune":
        prune.main(rest)
    elif known.what == "quantizers":
        quantizers.main(rest)
    else:
        quantize.main(known.what, rest)


if __name__ == "__main__":
    main()

"""`python -m slimcam.compression.plans FIRST [SECOND]`: a saved pruning plan as a table, or what sets two apart."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from slimcam.compression.errors import PlanError
from slimcam.compression.pruning.plan import PruningPlan
from slimcam.deploy.common.messages import one_line


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table; exits with 1 and one line if a file is no plan, or the two are of different models."""
    parser = argparse.ArgumentParser(
        prog="python -m slimcam.compression.plans", description=(__doc__ or "").split(": ")[1]
    )
    parser.add_argument("first", type=Path, help="plan.json of a result of stage prune")
    parser.add_argument("second", type=Path, nargs="?", help="another one, of the same model")
    options = parser.parse_args(arguments)
    try:
        first = PruningPlan.load(options.first)
        if options.second is None:
            print(first)
        else:
            print(first.difference(PruningPlan.load(options.second)) or "the plans keep the same channels")
    except (PlanError, OSError) as error:
        sys.exit(one_line(error))


if __name__ == "__main__":
    main()

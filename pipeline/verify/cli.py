"""`slimcam-verify MODEL ... --faces SET ...`: recognizers side by side on the same faces."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from slimcam.deploy.common import entry
from slimcam.deploy.common.config_errors import explain
from slimcam.deploy.common.console import log_to_console, show
from slimcam.deploy.common.files import atomic, write_text
from slimcam.deploy.common.text_table import grid
from slimcam.pipeline.report.plots import png
from slimcam.pipeline.verify import tables
from slimcam.pipeline.verify.candidates import open_candidates
from slimcam.pipeline.verify.compare import Comparison, compare, measure, record, unique_name
from slimcam.pipeline.verify.plot import draw
from slimcam.pipeline.verify.sets import open_faces, open_source
from slimcam.training.data.recognition.faces import Verification
from slimcam.training.tasks.recognition.breakdown import read_attributes
from slimcam.training.tasks.recognition.scorecard import FARS

logger = logging.getLogger(__name__)

DESCRIPTION = """Compares recognizers on the same aligned faces, 112x112: accuracy with a paired interval of the
differences, TAR at FAR, EER, identification with one and three photos enrolled, size, MACs and milliseconds."""

EPILOG = """
A MODEL is a bundle (`recognizer` is the one that comes with slimcam), or a .tflite, .onnx, .keras or ncnn .param file.
Pixels are fed as (pixel - 127.5) / 128, RGB, to .keras files as (pixel - 128) / 128; a model that takes less than a
whole face gets the middle of it. What is different follows the file:
FILE,mean=127.5,scale=127.5,color=bgr,crop=TOP:LEFT:HEIGHT:WIDTH,name=NAME

example:
  slimcam-verify recognizer edgeface_xs.onnx,scale=127.5 --faces lfw112/pairsDevTest.txt --out runs/verify
"""


def main() -> None:
    """The console script."""
    # Before TensorFlow is loaded, which reads them: one thread is what is compared.
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    log_to_console()
    options = _parser().parse_args()
    entry.begin()
    try:
        run(options)
    except (HydraException, OmegaConfBaseException, ValueError, OSError, ImportError, RuntimeError) as error:
        logger.error("slimcam-verify: %s", explain(error))
        sys.exit(1)
    except KeyboardInterrupt:
        logger.error("slimcam-verify: stopped")
        sys.exit(130)


def run(options: argparse.Namespace) -> None:
    """Compares what the options name; shows the tables, and writes them with the figures and plots behind them."""
    if not options.faces and not options.data:
        raise ValueError("on which faces? give --faces a list of pairs, a .bin or a folder of people, or --data")
    attributes = None if options.attributes is None else read_attributes(options.attributes)
    candidates = open_candidates(options.models)
    results: dict[str, Comparison] = {}
    for name, faces in _sets(options):
        results[unique_name(name, results)] = compare(candidates, faces, options.far, attributes)
    latencies = measure(candidates, options.samples, options.seconds) if options.samples else {}
    blocks = tables.blocks(candidates, latencies, results)
    show("\n\n".join(block if isinstance(block, str) else grid(block) for block in blocks))
    if options.out is not None:
        write_text(options.out / "verify.json", json.dumps(record(candidates, latencies, results), indent=2) + "\n")
        texts = [block if isinstance(block, str) else tables.markdown(block) for block in blocks]
        write_text(options.out / "verify.md", "\n\n".join(texts) + "\n")
        with atomic(options.out / "verify.png") as partial:
            partial.write_bytes(png(draw({name: result.cards for name, result in results.items()})))
        show(f"\ntables, figures and plots are in {options.out}")


def _sets(options: argparse.Namespace) -> list[tuple[str, Verification]]:
    sets = []
    for path in options.faces:
        name, faces, notes = open_faces(path, options.images, options.pairs)
        sets.append((name, faces))
        _warn(notes)
    if options.data:
        found, notes = open_source(options.data)
        sets += found
        _warn(notes)
    return sets


def _warn(notes: Sequence[str]) -> None:
    for note in notes[:5]:
        logger.warning("%s", note)
    if len(notes) > 5:
        logger.warning(f"and {len(notes) - 5} more")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "slimcam-verify", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('slimcam')}")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="the first is what others are compared with")
    parser.add_argument(
        "--faces",
        action="append",
        type=Path,
        default=[],
        metavar="SET",
        help="an LFW list of pairs, a .bin of InsightFace, or a folder with a folder for each person; may be repeated",
    )
    parser.add_argument("--images", type=Path, help="folder of a list's images; images/ beside the list by default")
    parser.add_argument("--pairs", type=int, default=2000, help="number of pairs sampled from a folder (%(default)s)")
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="OPTION",
        help="test and held-out people of a source of slimcam, as in --data data=lfw_pins data.root=FOLDER",
    )
    parser.add_argument(
        "--attributes", type=Path, help="CSV: a person's name or an image's file, then a column for each attribute"
    )
    parser.add_argument("--far", type=_rate, nargs="+", default=list(FARS), help="false-accept rates")
    parser.add_argument("--samples", type=int, default=200, help="timed inferences of each model; 0 times none")
    parser.add_argument("--seconds", type=float, default=10.0, help="least seconds of timing (%(default)s)")
    parser.add_argument("--out", type=Path, help="folder for verify.json, verify.md and verify.png")
    return parser


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate < 1:
        raise argparse.ArgumentTypeError(f"a rate lies between 0 and 1; got {text}")
    return rate


if __name__ == "__main__":
    main()

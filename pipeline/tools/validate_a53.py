"""How far the emulated Cortex-A53's predictions are from published measurements (`make validate-a53`).

Builds the models of the published points with random weights (latency does not depend on them), profiles them on the
emulated device, fits the timing model's constants to the points of the Snapdragon 625, and tests them by leaving each
point out and on two devices that the fit never sees. 20 minutes on two cores the first time; models and profiles stay
in the cache. `--write` also stores the constants that `slimcam-benchmark` uses.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from slimcam.deploy.benchmark.a53.emulator import profile_model
from slimcam.deploy.benchmark.a53.fit import (
    Check,
    Costs,
    check_points,
    costs_of,
    fit_constants,
    fit_scaling,
    largest_error,
    leave_one_out,
    mean_error,
    read_points,
    read_scaling,
)
from slimcam.deploy.benchmark.a53.latency import CONSTANTS, Constants
from slimcam.deploy.benchmark.a53.profile import Profile, compact, save_profile
from slimcam.deploy.benchmark.a53.sysroot import make_sysroot
from slimcam.deploy.common.console import log_to_console, show
from slimcam.deploy.common.files import atomic, cache_folder

logger = logging.getLogger(__name__)

SIZE, CALIBRATION_IMAGES, SEED = 224, 4, 0
# The error band is to hold 19 of 20 points, those of other devices and engines included.
BAND_QUANTILE = 0.95
LEAVE_ONE_OUT_BOUND, HELD_OUT_BOUND = 0.08, 0.15


def main() -> None:
    """Prints the tables; exits with 1 where an error is above its bound."""
    log_to_console()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="store the fitted constants")
    parser.add_argument("--profiles", type=Path, help="folder for compact profiles, which the tests use")
    arguments = parser.parse_args()
    try:
        profiles = profile_models()
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        sys.exit(f"validate-a53: {error}")
    constants, passed = validate_timing_model({name: costs_of(found) for name, found in profiles.items()})
    if arguments.write:
        CONSTANTS.write_text(json.dumps({"constants": asdict(constants)}, indent=2) + "\n")
    if arguments.profiles:
        for name, found in profiles.items():
            save_profile(compact(found), arguments.profiles / f"{name}.json.gz")
    sys.exit(0 if passed else 1)


def validate_timing_model(costs: Costs) -> tuple[Constants, bool]:
    """Fits, tests, prints; returns the constants and whether the errors are within their bounds."""
    points, held_out = read_points("fit"), read_points("test")
    constants = fit_constants(points, costs)
    left_out = leave_one_out(points, costs)
    tested = check_points(held_out, costs, constants)
    constants = fit_scaling(constants, read_scaling(), costs, points[0].device)
    errors = [abs(each.error) for each in (*left_out, *tested)]
    constants = rounded(replace(constants, band=float(np.quantile(errors, BAND_QUANTILE))))
    show("\n".join(error_table("Fitted points, each predicted without itself", left_out)))
    show("\n".join(error_table("Held out: other devices, another engine", tested)))
    passed = mean_error(left_out) <= LEAVE_ONE_OUT_BOUND and mean_error(tested) <= HELD_OUT_BOUND
    show(f"bounds: {LEAVE_ONE_OUT_BOUND:.0%} and {HELD_OUT_BOUND:.0%}: {'passed' if passed else 'FAILED'}")
    show(json.dumps(asdict(constants)))
    return constants, passed


def error_table(title: str, checks: Sequence[Check]) -> Iterator[str]:
    """Lines of a Markdown table."""
    yield f"### {title}\n"
    yield "| model, 224 px, 1 thread | device | published ms | predicted ms | error |"
    yield "|---|---|---|---|---|"
    for each in checks:
        point = each.point
        yield (
            f"| {point.model} | {point.device.name}, {point.device.clock_mhz / 1e3:.1f} GHz | {point.ms:.1f} | "
            f"{each.predicted_ms:.1f} | {each.error:+.1%} |"
        )
    yield f"\nmean absolute error {mean_error(checks):.1%}, largest {largest_error(checks):.1%}\n"


def rounded(constants: Constants) -> Constants:
    """What is stored: no digit that the points do not carry."""
    return Constants(**{name: float(f"{value:.3g}") for name, value in asdict(constants).items()})


def profile_models() -> dict[str, Profile]:
    """Profiles of all models with a published point."""
    models = sorted({point.model for role in ("fit", "test") for point in read_points(role)})
    sysroot = make_sysroot()
    profiles = {}
    for place, model in enumerate(models, 1):
        logger.info(f"validate-a53: {model} ({place} of {len(models)})")
        profiles[model] = profile_model(sysroot, build_keras_application(model, cache_folder() / "a53" / "models"))
    return profiles


def build_keras_application(model: str, folder: Path) -> Path:
    """The .tflite file of a `keras.applications` model with random weights, for example "mobilenet_v2_int8".

    Raises:
        ImportError: TensorFlow is not installed.
        KeyError: the model is not known.
    """
    path = folder / f"{model}.tflite"
    if path.is_file():
        return path
    import keras
    import tensorflow as tf

    name, _, dtype = model.rpartition("_")
    keras.utils.set_random_seed(SEED)
    image = keras.Input((SIZE, SIZE, 3), batch_size=1)
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, _builders()[name]()(image)))
    if dtype == "int8":
        rng = np.random.default_rng(SEED)
        images = [rng.uniform(-1, 1, (1, SIZE, SIZE, 3)).astype(np.float32) for _ in range(CALIBRATION_IMAGES)]
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([each] for each in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with atomic(path) as partial:
        partial.write_bytes(converter.convert())
    return path


def _builders() -> dict[str, Callable[[], Any]]:
    from keras import applications

    shape = (SIZE, SIZE, 3)
    bare = {"input_shape": shape, "weights": None, "include_preprocessing": False}
    return {
        "mobilenet_v1": lambda: applications.MobileNet(input_shape=shape, weights=None),
        "mobilenet_v2": lambda: applications.MobileNetV2(input_shape=shape, weights=None),
        "mobilenet_v3_small": lambda: applications.MobileNetV3Small(**bare),
        "mobilenet_v3_large": lambda: applications.MobileNetV3Large(**bare),
        "resnet50": lambda: applications.ResNet50(input_shape=shape, weights=None),
    }


if __name__ == "__main__":
    main()

"""How a recognizer names the rendered people of `make camera`'s scene, over many seeds.

    python -m slimcam.pipeline.tools.evaluate_scenes --seeds 30 [--recognizer BUNDLE]

Each seed is another scene with other people (`slimcam.training.tools.demo_clip`): some are enrolled with three pictures
each, one more person is not. The scene is played through what `slimcam-camera` does with each frame, and the names that
it gives are compared with the truth. Ten to forty seconds a seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from slimcam.deploy.camera.recognition import RecognitionPipeline
from slimcam.deploy.camera.sources import open_source
from slimcam.deploy.camera.track_identity import RecognizeConfig
from slimcam.deploy.common.console import show
from slimcam.deploy.common.files import write_text
from slimcam.deploy.common.text_table import grid
from slimcam.deploy.gallery.enrollment import templates
from slimcam.deploy.gallery.match import Matcher, threshold
from slimcam.deploy.gallery.people import Person, Snapshot
from slimcam.deploy.inference.bundle import DETECTOR, RECOGNIZER
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.types import Sighting
from slimcam.deploy.vision.align import face_sizes
from slimcam.deploy.vision.detector import FittingDetector, open_detector
from slimcam.deploy.vision.image_files import read_picture
from slimcam.deploy.vision.quality import QualityConfig
from slimcam.deploy.vision.track import TrackConfig
from slimcam.training.fit.progress import Progress
from slimcam.training.tools.demo_clip import ClipConfig, write_clip


@dataclass(frozen=True)
class SceneResult:
    """How the people of one scene were named, a count for each face in each frame.

    Attributes:
        seed: Seed of the scene.
        threshold: Least cosine of a match.
        unknown_faces: Number of faces of people who are not enrolled that were followed.
        false_positives: Number of them with the name of somebody enrolled: false positive identifications.
        highest_false_positive: Highest cosine of a false positive identification; `None` where there is none.
        enrolled_faces: Number of faces of enrolled people that were followed.
        right: Number of them with their own name.
        wrong: Number of them with another's name.
        missed: Number of faces that no track followed.
    """

    seed: int
    threshold: float
    unknown_faces: int
    false_positives: int
    highest_false_positive: float | None
    enrolled_faces: int
    right: int
    wrong: int
    missed: int


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m slimcam.pipeline.tools.evaluate_scenes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recognizer", type=Path, default=RECOGNIZER, help="bundle; slimcam's own by default")
    parser.add_argument("--detector", type=Path, default=DETECTOR, help="bundle; slimcam's own by default")
    parser.add_argument("--seeds", type=int, default=30, help="number of scenes (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="first seed (%(default)s)")
    parser.add_argument("--far", type=float, default=0.001, help="false accept rate of the threshold (%(default)s)")
    parser.add_argument("--margin", type=float, default=0.05, help="as of slimcam-camera (%(default)s)")
    parser.add_argument("--seconds", type=float, default=ClipConfig.seconds, help="length of a scene (%(default)s)")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args(arguments)
    try:
        if options.seeds < 1:
            raise ValueError(f"seeds is 1 or more; got {options.seeds}")
        detector, recognizer = open_detector(options.detector), Recognizer(options.recognizer)
        least = threshold(recognizer.bundle, options.far)
        scene = ClipConfig(seconds=options.seconds)
        results = []
        progress = Progress(options.seeds, "scenes", unit="scenes")
        for seed in range(options.first, options.first + options.seeds):
            one = replace(scene, seed=seed)
            results.append(evaluate_scene(one, detector, recognizer, least, options.margin))
            progress.advance(
                1, f"seed {seed}: " + ("a false positive" if results[-1].false_positives else "no false positive")
            )
        progress.close()
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        sys.exit(f"evaluate_scenes: {error}")
    show(table(results))
    if options.out is not None:
        record = {"recognizer": recognizer.bundle.sha256, "far": options.far, "margin": options.margin}
        write_text(options.out, json.dumps({**record, "scenes": [asdict(each) for each in results]}, indent=2) + "\n")


def evaluate_scene(
    scene: ClipConfig, detector: FittingDetector, recognizer: Recognizer, least: float, margin: float
) -> SceneResult:
    """Renders a scene, enrolls its people, and plays it.

    Args:
        least: cosine from which on a face is somebody's.
        margin: least difference of cosines between the best and the next person.

    Raises:
        ValueError: nobody of the scene can be enrolled.
    """
    with tempfile.TemporaryDirectory() as folder:
        video = write_clip(Path(folder), scene)
        truth = json.loads((Path(folder) / "truth.json").read_text())
        matcher = Matcher(_enrolled(Path(folder), truth["enrolled"], detector, recognizer), least, margin)
        counts = dict.fromkeys(("unknown_faces", "false_positives", "enrolled_faces", "right", "wrong", "missed"), 0)
        taken_for: list[float] = []
        with open_source(str(video)) as source:
            pipeline = RecognitionPipeline(
                *(detector, recognizer, matcher, RecognizeConfig(), QualityConfig(), TrackConfig()),
                kind=source.kind,
                fps=source.fps,
            )
            for frame, now in zip(source, truth["frames"], strict=False):
                sightings = pipeline.see(frame).sightings
                for face in now["faces"]:
                    found = followed(np.array(face["points"], np.float32), sightings)
                    if found is None:
                        counts["missed"] += 1
                        continue
                    identity = found.identity
                    name = identity.name if identity is not None and identity.known else None
                    if face["person"] in truth["enrolled"]:
                        counts["enrolled_faces"] += 1
                        counts["right"] += name == face["person"]
                        counts["wrong"] += name not in (None, face["person"])
                    else:
                        counts["unknown_faces"] += 1
                        counts["false_positives"] += name is not None
                        taken_for += [identity.score] if identity is not None and name is not None else []
    return SceneResult(scene.seed, least, highest_false_positive=max(taken_for, default=None), **counts)


def followed(points: np.ndarray[Any, np.dtype[np.float32]], sightings: Sequence[Sighting]) -> Sighting | None:
    """The sighting of a face, `(5, 2)`: the nearest one, if it is less than half the face's size away."""
    if not sightings:
        return None
    away = [float(np.linalg.norm(each.points.mean(axis=0) - points.mean(axis=0))) for each in sightings]
    nearest = int(np.argmin(away))
    return sightings[nearest] if away[nearest] < 0.5 * float(face_sizes(points[np.newaxis])[0]) else None


def table(results: Sequence[SceneResult]) -> str:
    """A row for each scene, and what they come to."""
    rows = [("seed", "false positive", "cosine", "of frames", "right name", "wrong name", "missed")]
    for each in results:
        score = "" if each.highest_false_positive is None else f"{each.highest_false_positive:.2f}"
        shares = (
            _share(each.false_positives, each.unknown_faces),
            _share(each.right, each.enrolled_faces),
            _share(each.wrong, each.enrolled_faces),
        )
        rows.append((str(each.seed), "yes" if each.false_positives else "no", score, *shares, str(each.missed)))
    named, mistaken = (sum(getattr(each, name) > 0 for each in results) for name in ("false_positives", "wrong"))
    faces = sum(each.enrolled_faces for each in results)
    right = _share(sum(each.right for each in results), faces)
    wrong = _share(sum(each.wrong for each in results), faces)
    return "\n".join(
        [
            grid(rows),
            f"false positive identifications in {named} of {len(results)} scenes, enrolled people taken for another "
            f"in {mistaken}; enrolled faces with the right name {right}, with a wrong one {wrong}; threshold "
            f"{results[0].threshold:.2f}",
        ]
    )


def _enrolled(
    folder: Path, pictures: dict[str, list[str]], detector: FittingDetector, recognizer: Recognizer
) -> Snapshot:
    people, embeddings, owners = [], [], []
    for number, (name, files) in enumerate(pictures.items()):
        images = ((file, read_picture(folder / file)) for file in files)
        taken, _ = templates(images, detector, recognizer, QualityConfig())
        people.append(Person(f"{number:032x}", name, len(taken), 0.0, None, "rendered"))
        embeddings += [one.embedding for one in taken]
        owners += [number] * len(taken)
    return Snapshot(1, tuple(people), np.stack(embeddings), np.array(owners, np.int64))


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} %" if total else "-"


if __name__ == "__main__":
    main()

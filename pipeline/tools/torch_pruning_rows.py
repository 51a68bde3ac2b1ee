"""What Torch-Pruning makes of the models of `keras.applications`, in the environment of PyTorch.

Run by `slimcam.pipeline.tools.compare_torch_pruning`; alone, `python torch_pruning_rows.py NAME ...` prints a line of
JSON for each name. Models are those of torchvision, or else of timm, with random weights.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch

# The operators of torchvision's detectors are in an extension that a build of PyTorch for another device cannot load;
# the classifiers need their names alone.
_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    try:
        _LIBRARY.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except RuntimeError:  # the extension is there
        break

import timm  # noqa: E402
import torch_pruning as tp  # noqa: E402
import torchvision  # noqa: E402

TIMM = {
    "ConvNeXtXLarge": "convnext_xlarge",
    "InceptionResNetV2": "inception_resnet_v2",
    "MobileNet": "mobilenetv1_100",
    "NASNetLarge": "nasnetalarge",
    "Xception": "legacy_xception",
    **{f"EfficientNetV2B{size}": f"tf_efficientnetv2_b{size}" for size in range(4)},
    **{f"ResNet{depth}V2": f"resnetv2_{depth}" for depth in (50, 101, 152)},
}
TORCHVISION = {
    "InceptionV3": "inception_v3",
    "MobileNetV2": "mobilenet_v2",
    **{f"ConvNeXt{size}": f"convnext_{size.lower()}" for size in ("Tiny", "Small", "Base", "Large")},
    **{f"DenseNet{depth}": f"densenet{depth}" for depth in (121, 169, 201)},
    **{f"EfficientNetB{size}": f"efficientnet_b{size}" for size in range(8)},
    **{f"EfficientNetV2{size}": f"efficientnet_v2_{size.lower()}" for size in "SML"},
    **{f"MobileNetV3{size}": f"mobilenet_v3_{size.lower()}" for size in ("Large", "Small")},
    **{f"ResNet{depth}": f"resnet{depth}" for depth in (50, 101, 152)},
    **{f"VGG{depth}": f"vgg{depth}" for depth in (16, 19)},
}


def built(name: str) -> tuple[Any, Any]:
    """A model in evaluation mode and an image for it; timm's and torchvision's have their own input sizes."""
    if name in TIMM:
        model = timm.create_model(TIMM[name], pretrained=False)
        return model.eval(), torch.randn(1, *model.default_cfg["input_size"])
    options = {"aux_logits": False, "init_weights": False} if name == "InceptionV3" else {}
    model = getattr(torchvision.models, TORCHVISION[name])(weights=None, **options)
    side = 299 if name == "InceptionV3" else 224
    return model.eval(), torch.randn(1, 3, side, side)


def widths(model: Any) -> dict[str, int]:
    """Channels that each convolution and dense layer computes, the classifier's left out."""
    last = classifier(model)
    return {
        name: each.out_channels if isinstance(each, torch.nn.Conv2d) else each.out_features
        for name, each in model.named_modules()
        if isinstance(each, (torch.nn.Conv2d, torch.nn.Linear)) and each is not last
    }


def classifier(model: Any) -> Any:
    """The last layer: what computes as many values as there are classes."""
    return [
        each
        for each in model.modules()
        if getattr(each, "out_features", 0) == 1000 or getattr(each, "out_channels", 0) == 1000
    ][-1]


def pruned(model: Any, image: Any, ratio: float, round_to: int | None) -> tuple[float, float]:
    """Traces, plans and cuts; gives seconds on the clock and of processor time."""
    clock, cpu = time.monotonic(), time.process_time()
    pruner = tp.pruner.BasePruner(
        model,
        image,
        importance=tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=[classifier(model)],
        round_to=round_to,
    )
    pruner.step()
    return time.monotonic() - clock, time.process_time() - cpu


def row(name: str) -> dict[str, Any]:
    """Half of the channels of one model, and whether it still computes."""
    found: dict[str, Any] = {"model": name}
    try:
        if name not in TIMM and name not in TORCHVISION:
            raise LookupError("neither torchvision nor timm has it")
        model, image = built(name)
        before, parameters = widths(model), sum(each.numel() for each in model.parameters())
        found["seconds"] = round(pruned(model, image, 0.5, None)[1], 2)
        after = widths(model)
        left = sum(each.numel() for each in model.parameters())
        found["parameters"] = (parameters, left)
        found["frozen_share"] = round(
            sum(count for layer, count in before.items() if after[layer] == count > 1) / sum(before.values()), 4
        )
        with torch.no_grad():
            model(image)
    except Exception as error:  # whatever it is, it is what the row is for
        found["error"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return found


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.argv[1:] or sys.stdin:
        name = line.strip()
        if name == "time ResNet50":
            model, image = built("ResNet50")
            print(json.dumps(pruned(model, image, 0.7, 8)), flush=True)
        else:
            print(json.dumps(row(name)), flush=True)


if __name__ == "__main__":
    main()

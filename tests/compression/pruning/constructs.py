"""Small networks, each of one construct that couples channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

L, ops = keras.layers, keras.ops


def conv(x: Any, filters: int = 8, size: int = 1, **options: Any) -> Any:
    return L.Conv2D(filters, size, padding="same", **options)(x)


def shuffle(x: Any) -> Any:
    x = conv(conv(x, 12), 12, 3, groups=3)
    x = L.Permute((1, 2, 4, 3))(L.Reshape((8, 8, 3, 4))(x))
    return conv(L.Reshape((8, 8, 12))(x), 12, 3, groups=3)


def shuffle_by_operations(x: Any) -> Any:
    x = ops.reshape(conv(x, 12), (-1, 8, 8, 2, 6))
    x = ops.transpose(x, (0, 1, 2, 4, 3))
    return conv(L.ReLU()(ops.reshape(x, (-1, 8, 8, 12))))


def grouped_then_normalized(x: Any) -> Any:
    x = L.GroupNormalization(4)(conv(conv(x, 16), 16, 3, groups=2))
    return conv(L.ReLU()(x), 8)


def instance_norm(x: Any) -> Any:
    return conv(L.GroupNormalization(-1)(conv(x)), 4)


def squeezed(x: Any, spell: Callable[[Any], Any], filters: int = 8) -> Any:
    x = conv(x, filters)
    return L.Multiply()([x, spell(x)])


def excite(x: Any) -> Any:
    return L.Dense(8, "sigmoid")(L.Dense(4, "relu")(x))


def attention(x: Any) -> Any:
    x = L.Dense(12)(L.Reshape((16, 3))(L.AveragePooling2D(2)(x)))
    y = L.MultiHeadAttention(4, 3)(L.LayerNormalization()(x), x)
    x = L.Add()([x, y])
    return L.Reshape((4, 4, 12))(x + L.MultiHeadAttention(2, 3, value_dim=5)(query=x, value=y, key=x))


def unstacked(x: Any) -> Any:
    x = ops.stack([conv(x), conv(x)], axis=1)
    first, second = ops.unstack(x, 2, axis=1)
    return L.Add()([first, second])


def cross_stage(x: Any) -> Any:
    first, second = ops.split(conv(x, 12), 2, axis=-1)
    return L.Concatenate()([first, conv(second, 6, 3)])


CONSTRUCTS: dict[str, Callable[[Any], Any]] = {
    "split": lambda x: L.Add()([conv(part, 6) for part in ops.split(conv(x, 12), [3, 7], axis=-1)]),
    "cross stage": cross_stage,
    "split of a stream": lambda x: L.Concatenate()(ops.split(L.Add()([conv(x, 12), conv(x, 12)]), 3, axis=-1)[::2]),
    "spatial split": lambda x: L.Add()(ops.split(conv(x), 2, axis=1)),
    "unstack": unstacked,
    "slices": lambda x: L.Add()([conv(y, 6) for x in [conv(x, 12)] for y in (x[..., 2:7], x[:, :, :, -4:])]),
    "overlapping slices": lambda x: L.Concatenate()([y[..., :6] + y[..., 3:9] for y in [conv(x, 12)]]),
    "spatial slice": lambda x: conv(x)[:, 1:-2, ::2],
    "channel shuffle": shuffle,
    "shuffle by operations": shuffle_by_operations,
    "groups": lambda x: conv(conv(x, 12), 18, 3, groups=3),
    "groups after groups": lambda x: conv(conv(conv(x, 12), 12, 3, groups=2), 12, 3, groups=3),
    "groups in a sum": lambda x: L.Add()([conv(conv(x, 12), 12, 3, groups=3), conv(x, 12)]),
    "depthwise by groups": lambda x: conv(conv(x, 6), 12, 3, groups=6),
    "layer normalization": lambda x: L.LayerNormalization()(conv(x)),
    "layer normalization of images": lambda x: L.LayerNormalization(axis=[1, 2, 3])(conv(x)),
    "rms normalization": lambda x: L.RMSNormalization()(conv(x)),
    "unit normalization": lambda x: L.UnitNormalization()(conv(x)),
    "group normalization": lambda x: L.GroupNormalization(2)(conv(x)),
    "one group": lambda x: L.GroupNormalization(1)(conv(x)),
    "grouped then normalized": grouped_then_normalized,
    "instance normalization": instance_norm,
    "attention": attention,
    "gate by dense": lambda x: squeezed(x, lambda y: L.Reshape((1, 1, 8))(excite(L.GlobalAveragePooling2D()(y)))),
    "gate of kept rank": lambda x: squeezed(x, lambda y: excite(L.GlobalAveragePooling2D(keepdims=True)(y))),
    "gate by operations": lambda x: squeezed(x, lambda y: excite(ops.mean(y, (1, 2), keepdims=True))),
    "gate by indices": lambda x: squeezed(x, lambda y: excite(ops.max(y, (1, 2)))[:, None, None, :]),
    "gate by expansion": lambda x: squeezed(x, lambda y: ops.expand_dims(excite(ops.mean(y, (1, 2))), (1, 2))),
    "gate of a pooled square": lambda x: squeezed(x, lambda y: excite(L.AdaptiveAveragePooling2D(1)(y))),
    "gate by repetition": lambda x: squeezed(
        x, lambda y: L.Reshape((8, 8, 8))(L.RepeatVector(64)(excite(L.GlobalMaxPooling2D()(y))))
    ),
    "gate by one dense": lambda x: squeezed(
        x, lambda y: L.Activation("hard_sigmoid")(conv(ops.mean(y, (1, 2), keepdims=True)))
    ),
    "squeeze": lambda x: ops.squeeze(ops.expand_dims(conv(x), 1), 1),
    "moved axes": lambda x: ops.moveaxis(ops.swapaxes(ops.moveaxis(conv(x), -1, 1), 1, 2), 2, -1),
    "borders": lambda x: ops.clip(ops.pad(conv(x), ((0, 0), (1, 1), (2, 0), (0, 0))), 0.1, 0.7),
    "resizing": lambda x: L.Resizing(5, 7)(conv(x)),
}

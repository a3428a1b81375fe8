"""One configuration in a line that a person can read."""

from collections.abc import Mapping

from tuner.specs.hyperparameters import Hyperparameters


def in_words(point: Hyperparameters | Mapping[str, bool | int | float | str]) -> str:
    """`2×128 relu · adam 0.001 · cross_entropy · batch 128 · …`; what is switched off is left out. Of an outside objective, every
    name with its value."""
    if not isinstance(point, Hyperparameters):
        return " · ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in point.items()
        )
    pieces = f"({point.maxout_pieces})" if point.maxout_pieces is not None else ""
    parts = [
        f"{point.depth}×{point.width} {point.activation}{pieces}{' batch_norm' if point.batch_norm else ''}",
        f"{point.optimizer} {point.learning_rate:.3g}",
        point.loss,
        f"batch {point.batch_size}",
    ]
    if point.dropout:
        parts.append(f"dropout {point.dropout:.2f}")
    if point.input_dropout:
        parts.append(f"input dropout {point.input_dropout:.2f}")
    if point.shift_pixels:
        parts.append(f"shift {point.shift_pixels}")
    if point.rotate_degrees:
        parts.append(f"rotate {point.rotate_degrees:g}°")
    if point.zoom:
        parts.append(f"zoom {point.zoom:g}")
    if point.weight_decay:
        parts.append(f"decay {point.weight_decay:.1e}")
    if point.normalisation != "standardise":
        parts.append(f"pixels {point.normalisation}")
    return " · ".join(parts)

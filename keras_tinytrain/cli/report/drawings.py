"""Drawings of a report as inline SVG. Colours are CSS variables of the page; every shape has its value as a title."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from keras_tinytrain._text import KILOBYTE, kilobytes

_WIDTH, _HEIGHT, _LEFT, _TOP = 720, 220, 46, 24
_PARTS = {"frozen": "frozen part, forward", "trainable": "trainable part, forward", "backward": "backward"}


def memory_bar(name: str, memory: Mapping) -> Markup:
    """A bar as long as the board's memory: what each part takes, and what is left to the board's core."""
    scale = _WIDTH / max(memory["available_bytes"], memory["total_bytes"])
    shapes, left = [], 0.0
    for number, (part, size) in enumerate(memory["parts"].items()):
        shapes.append(_box(left, 0, size * scale, 28, f"part{number % 8}", f"{part}: {size:,} B"))
        left += size * scale
    reserved = memory["reserved_bytes"] * scale
    if reserved:
        shapes.append(_box(_WIDTH - reserved, 0, reserved, 28, "reserved", f"left to the core: {memory['reserved_bytes']:,} B"))
    told = f"{name}: {kilobytes(memory['total_bytes'])} of {kilobytes(memory['available_bytes'])} KB"
    return _drawing(told, [_box(0, 0, _WIDTH, 28, "empty", "free"), *shapes], height=28)


def arena(steps: Sequence[Mapping], limit: int) -> Markup:
    """A bar for each operator in the order in which they run, and the arena's size as a line."""
    top, width = max(limit, *(step["bytes"] for step in steps)), (_WIDTH - _LEFT) / len(steps)
    shapes = []
    for number, step in enumerate(steps):
        height = step["bytes"] / top * (_HEIGHT - _TOP)
        told = f"{_PARTS[step['part']]}: {step['operator']} {step['layer']}, {step['bytes']:,} B"
        shapes.append(_box(_LEFT + number * width, _HEIGHT - height, max(width - 1, 0.5), height, step["part"], told))
    line = _HEIGHT - limit / top * (_HEIGHT - _TOP)
    shapes.append(_line([(_LEFT, line), (_WIDTH, line)], "limit"))
    shapes.append(_words(_WIDTH, line - 6, f"arena, {kilobytes(limit)} KB", "end"))
    return _drawing(f"Bytes alive at each of {len(steps)} operators", [*shapes, *_scale(top / KILOBYTE, "KB")])


def curve(losses: Sequence[float]) -> Markup:
    """The loss before each iteration."""
    top, last = max(*losses, 1e-9), max(len(losses) - 1, 1)
    points = [
        (_LEFT + number / last * (_WIDTH - _LEFT - 10), _HEIGHT - value / top * (_HEIGHT - _TOP))
        for number, value in enumerate(losses)
    ]
    dots = [
        Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4" class="dot"><title>{}</title></circle>').format(
            x, y, f"iteration {number + 1}: {value:.4g}"
        )
        for number, ((x, y), value) in enumerate(zip(points, losses))
    ]
    told = f"Loss, {losses[0]:.3g} to {losses[-1]:.3g} in {len(losses)} iterations"
    return _drawing(told, [_line(points, "curve"), *dots, *_scale(top, "loss")])


def _scale(top: float, unit: str) -> list[Markup]:
    """The vertical axis: 0, and the largest value with its unit."""
    axis = _line([(_LEFT, _TOP), (_LEFT, _HEIGHT), (_WIDTH, _HEIGHT)], "axis")
    return [axis, _words(_LEFT - 6, _HEIGHT, "0", "end"), _words(0, 14, f"{top:.3g} {unit}", "start")]


def _drawing(told: str, shapes: Sequence[Markup], height: int = _HEIGHT) -> Markup:
    """An SVG that scales with the page; a screen reader says `told`."""
    head = Markup('<svg viewBox="0 -2 {} {}" role="img" aria-label="{}">').format(_WIDTH, height + 4, told)
    return head + Markup("").join(shapes) + Markup("</svg>")


def _box(x: float, y: float, width: float, height: float, kind: str, told: str) -> Markup:
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}"><title>{}</title></rect>').format(
        x, y, width, height, kind, told
    )


def _line(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    return Markup('<polyline points="{}" class="{}"/>').format(" ".join(f"{x:.1f},{y:.1f}" for x, y in points), kind)


def _words(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, text)

"""Procedural scenes with a ground truth: a few coloured, textured shapes on a muted table top.

A scene is fully determined by its seed, and shows the same thing at every size. Each object has one shape, one texture,
one colour and the exact mask of its visible pixels, so that both *where* and *what* a feature sees can be checked.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from accentor.engine.reference.backgrounds import render_background
from accentor.engine.reference.palette import TONES, object_tones, oklch
from accentor.engine.reference.shapes import DISTANCES
from accentor.engine.reference.textures import FIELDS

Field = npt.NDArray[np.floating[Any]]

SHAPES = tuple(DISTANCES)
TEXTURES = tuple(FIELDS)
COLORS = tuple(TONES)
LABELS = SHAPES + TEXTURES + COLORS
"""All labels in the order of the networks' logits."""

MIN_VISIBLE = 0.6
"""An object counts as present when at least this part of it is in view and not covered."""

RADII = {2: (0.205, 0.265), 3: (0.175, 0.225), 4: (0.16, 0.195)}
MARGIN = 0.9
SPACING = 0.9
PLACEMENT_TRIES = 400
TILT = 0.45
PERIOD = (0.41, 0.52)
SHADOW_STRENGTH = 0.46
CONTACT_STRENGTH = 0.22
PEBBLE_SHADOW = 0.4


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene.

    Attributes
    ----------
    shape, texture, color
        Its three labels.
    mask
        Its visible pixels, boolean [H, W].
    visible
        The part of the whole object that is in view and not covered, 0..1.
    period
        The repeat length of its texture, in sides of the image.
    """

    shape: str
    texture: str
    color: str
    mask: npt.NDArray[np.bool_]
    visible: float
    period: float

    @property
    def labels(self) -> tuple[str, str, str]:
        """The shape, texture and colour."""
        return self.shape, self.texture, self.color


@dataclass(frozen=True)
class Scene:
    """A rendered scene.

    Attributes
    ----------
    image
        Pixels, uint8 [H, W, 3], sRGB.
    objects
        The objects from back to front.
    """

    image: npt.NDArray[np.uint8]
    objects: tuple[SceneObject, ...]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels present in the scene, in logit order."""
        present = {label for item in self.objects if item.visible >= MIN_VISIBLE for label in item.labels}
        return tuple(label for label in LABELS if label in present)


@dataclass(frozen=True)
class _Plan:
    shape: str
    texture: str
    color: str
    x: float
    y: float
    radius: float
    tilt: float
    texture_angle: float
    texture_shift: tuple[float, float]
    period: float
    tones: tuple[Field, Field]


@dataclass(frozen=True)
class _Window:
    rows: slice
    columns: slice
    x: Field
    y: Field


def _place(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    count = int(rng.integers(2, 5))
    low, high = RADII[count]
    while True:
        placed: list[tuple[float, float, float]] = []
        for _ in range(PLACEMENT_TRIES):
            radius = rng.uniform(low, high)
            x, y = rng.uniform(MARGIN * radius, 1 - MARGIN * radius, 2)
            if all(np.hypot(x - px, y - py) > SPACING * (radius + pr) for px, py, pr in placed):
                placed.append((float(x), float(y), float(radius)))
            if len(placed) == count:
                return placed


def _plan_objects(rng: np.random.Generator) -> list[_Plan]:
    plans = []
    for x, y, radius in _place(rng):
        color = str(rng.choice(COLORS))
        plans.append(
            _Plan(
                shape=str(rng.choice(SHAPES)),
                texture=str(rng.choice(TEXTURES)),
                color=color,
                x=x,
                y=y,
                radius=radius,
                tilt=rng.uniform(-TILT, TILT),
                texture_angle=rng.uniform(0, np.pi),
                texture_shift=(rng.random(), rng.random()),
                period=radius * rng.uniform(*PERIOD),
                tones=object_tones(color, rng),
            )
        )
    return plans


def _window(size: int, x: float, y: float, reach: float) -> _Window:
    def span(center: float) -> slice:
        return slice(max(int((center - reach) * size), 0), min(int((center + reach) * size) + 1, size))

    rows, columns = span(y), span(x)
    pixels = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / size
    return _Window(rows, columns, (pixels[columns] - np.float32(x))[None, :], (pixels[rows] - np.float32(y))[:, None])


def _rotate(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def _distance(plan: _Plan, x: Field, y: Field) -> Field:
    """Signed distance to the object's outline, in sides of the image; y down."""
    radius = np.float32(plan.radius)
    local_x, local_y = _rotate(x / radius, y / radius, plan.tilt)
    return DISTANCES[plan.shape](local_x, -local_y) * radius


@lru_cache
def _unit_area(shape: str) -> float:
    """Area of a shape of radius one, from a fine grid."""
    axis = np.linspace(-1.5, 1.5, 1001, dtype=np.float32)
    inside = DISTANCES[shape](axis[None, :], axis[:, None]) < 0
    return float(inside.mean() * 9)


def _albedo(plan: _Plan, window: _Window, size: int) -> Field:
    period = np.float32(plan.period)
    across, along = _rotate(window.x / period, window.y / period, plan.texture_angle)
    field = FIELDS[plan.texture](across + np.float32(plan.texture_shift[0]), along + np.float32(plan.texture_shift[1]))
    second = np.clip(field * (period * size) + np.float32(0.5), 0, 1)[:, :, None]
    main, other = plan.tones
    albedo: Field = main + second * (other - main)
    return albedo


def _relief(plan: _Plan, window: _Window, distance: Field, size: int, light: tuple[float, float]) -> Field:
    """Brightness factor of a softly domed body lit from the side."""
    radius = np.float32(plan.radius)
    slope_y, slope_x = np.gradient(distance * size)
    facing = slope_x * np.float32(light[0]) + slope_y * np.float32(light[1])
    bevel = np.exp(np.minimum(distance, 0) / (np.float32(0.13) * radius))
    dome = (window.x * np.float32(light[0]) + window.y * np.float32(light[1])) / radius
    return 1 + np.float32(0.10) * dome + np.float32(0.20) * facing * bevel


def _soft_step(distance: Field, softness: float) -> Field:
    ramp = np.clip(np.float32(0.5) - distance / np.float32(2 * softness), 0, 1)
    field: Field = ramp * ramp * (3 - 2 * ramp)
    return field


def _draw_object(canvas: Field, plan: _Plan, light: tuple[float, float]) -> tuple[_Window, Field]:
    """Paint an object with its shadow onto the canvas, in place; return its window and coverage."""
    size = canvas.shape[0]
    window = _window(size, plan.x, plan.y, plan.radius * 1.45 + 0.01)
    distance = _distance(plan, window.x, window.y)
    drop = plan.radius * 0.2
    cast = _distance(plan, window.x + np.float32(drop * light[0]), window.y + np.float32(drop * light[1]))
    shadow = SHADOW_STRENGTH * _soft_step(cast - np.float32(0.01), plan.radius * 0.24)
    contact = CONTACT_STRENGTH * np.exp(-np.maximum(distance, 0) / np.float32(0.05 * plan.radius))
    shade = (1 - shadow) * (1 - contact)
    coverage = np.clip(np.float32(0.5) - distance * size, 0, 1)
    body = _albedo(plan, window, size) * _relief(plan, window, distance, size, light)[:, :, None]
    patch = canvas[window.rows, window.columns]
    patch *= shade[:, :, None]
    patch += coverage[:, :, None] * (body - patch)
    return window, coverage


def _capsule(x: Field, y: Field, angle: float, length: float, width: float) -> Field:
    """Signed distance to a rod of half length `length` with round ends of radius `width`."""
    along, across = _rotate(x, y, angle)
    beyond = np.maximum(np.abs(along) - np.float32(length), 0)
    return np.hypot(beyond, across) - np.float32(width)


def _draw_clutter(canvas: Field, rng: np.random.Generator, light: tuple[float, float]) -> None:
    """Scatter small grey pebbles and twigs over the canvas, in place."""
    size = canvas.shape[0]
    for _ in range(int(rng.integers(3, 9))):
        x, y = rng.random(2)
        if rng.random() < 0.35:
            length, width, lightness = rng.uniform(0.02, 0.04), 0.0042, rng.uniform(0.40, 0.62)
        else:
            length, width, lightness = rng.uniform(0.001, 0.006), rng.uniform(0.009, 0.015), rng.uniform(0.5, 0.85)
        angle = rng.uniform(0, np.pi)
        color = oklch(lightness, 0.018, rng.uniform(30, 110))
        window = _window(size, float(x), float(y), length + width * 3)
        toward_light = window.x * np.float32(light[0]) + window.y * np.float32(light[1])
        drop_x, drop_y = np.float32(width * 0.5 * light[0]), np.float32(width * 0.5 * light[1])
        cast = _capsule(window.x + drop_x, window.y + drop_y, angle, length, width)
        shadow = PEBBLE_SHADOW * _soft_step(cast, width * 0.8)
        coverage = np.clip(np.float32(0.5) - _capsule(window.x, window.y, angle, length, width) * size, 0, 1)
        lift = np.clip(1 + np.float32(0.15 / max(width, 0.008)) * toward_light, 0.85, 1.15)
        patch = canvas[window.rows, window.columns]
        patch *= 1 - shadow[:, :, None]
        patch += coverage[:, :, None] * (color * lift[:, :, None] - patch)


def render_scene(seed: int, size: int = 256) -> Scene:
    """Draw the scene of a seed.

    Parameters
    ----------
    seed
        Any non-negative integer; the same seed gives the same pixels, and the same scene at every size.
    size
        Side of the image in pixels.

    Returns
    -------
    Scene
        The image with its objects and their masks.
    """
    rng = np.random.default_rng(seed)
    plans = _plan_objects(rng)
    angle = rng.uniform(np.pi * 1.1, np.pi * 1.9)
    light = (float(np.cos(angle)), float(np.sin(angle)))
    canvas = render_background(rng, size, light)
    _draw_clutter(canvas, rng, light)
    owner = np.full((size, size), -1, np.int8)
    for index, plan in enumerate(plans):
        window, coverage = _draw_object(canvas, plan, light)
        owner[window.rows, window.columns][coverage > 0.5] = index
    image = (np.clip(canvas, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
    objects = tuple(
        SceneObject(
            plan.shape,
            plan.texture,
            plan.color,
            owner == index,
            min(float((owner == index).mean() / (_unit_area(plan.shape) * plan.radius**2)), 1.0),
            plan.period,
        )
        for index, plan in enumerate(plans)
    )
    return Scene(image, objects)

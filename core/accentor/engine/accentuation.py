"""The result of accentuating one feature in one image."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from PIL import Image
from torch import Tensor

import accentor
from accentor.engine.opacity import opacity_of
from accentor.engine.outputs.files import FRAME_MS, LAST_FRAME_MS, animation, png
from accentor.engine.outputs.pictures import (
    Background,
    backdrop,
    bounding_box,
    channel_notes,
    difference,
    faded,
    lay_over,
    side_by_side,
    to_bytes,
    to_picture,
)
from accentor.errors import InvalidRequestError
from accentor.metadata import Metadata
from accentor.spec import ENGINE_VERSION, Feature, JobSpec, Recipe, Result, Snapshot
from accentor.spec.status import SweepEntry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "ARTEFACTS",
    "FRAME_MS",
    "LAST_FRAME_MS",
    "VIEWS",
    "Accentuation",
    "SweepPoint",
    "View",
    "to_bytes",
    "to_picture",
]

ARTEFACTS = ("accentuated.png", "opacity.png", "overlay.png", "frames.webp")
SWEEP_ARTEFACT = "sweep.webp"
GAIN = 4.0
"""Default gain of the difference: a change of a quarter of the range reaches black or white."""
GAP_PX = 8

View = Literal["seed", "accentuated", "overlay", "opacity", "what", "where", "difference"]
VIEWS: tuple[View, ...] = get_args(View)


@dataclass(frozen=True, eq=False)
class SweepPoint:
    """The result at one strength of a sweep.

    Attributes
    ----------
    strength
        Share of the recipe's steps: 0 the seed, 1 the result, below 0 suppressed.
    step
        Steps taken.
    value, distance
        The feature's value, and the distance to the seed in the regularisation layer, on the clean image.
    image
        uint8 [C, H, W].
    """

    strength: float
    step: int
    value: float
    distance: float
    image: Tensor


@dataclass(frozen=True, eq=False)
class Accentuation:
    """One accentuation: the picture, where it happened, and how the feature's value changed.

    Attributes
    ----------
    feature, recipe, seed
        What was asked for; ``seed`` is the random seed.
    source
        The seed image on the canvas, float [C, H, W] in 0..1.
    pixels
        The accentuated image, float [C, H, W] in 0..1, raw: never stretched.
    opacity
        Where, float [H, W] in 0..1.
    trajectory
        Per snapshot, the seed first: step, value, distance in the regularisation layer.
    snapshots
        The image at each point of the trajectory, uint8 [C, H, W].
    seconds
        Its share of the computation.
    notes
        What a reader of the picture should know.
    accumulated
        Σ|∂f/∂x| until each point of the trajectory, mean over colour, float [H, W]: what opacity maps are made of.
        Empty if it was not kept.
    sweep
        The result at each strength of the recipe, sorted by strength; empty without strengths.
    model
        The model's name.
    precision
        What the network's passes were computed in.
    stopped_at
        Step at which the activation target was reached, 0 if the seed is there already; none: it was not, or there was
        none.
    """

    feature: Feature
    recipe: Recipe
    seed: int
    source: Tensor
    pixels: Tensor
    opacity: Tensor
    trajectory: tuple[Snapshot, ...]
    snapshots: tuple[Tensor, ...]
    model_digest: str
    device: str
    seconds: float
    notes: tuple[str, ...] = ()
    accumulated: tuple[Tensor, ...] = ()
    sweep: tuple[SweepPoint, ...] = ()
    model: str = ""
    precision: str = "float32"
    stopped_at: int | None = None

    def __post_init__(self) -> None:
        new = tuple(note for note in channel_notes(len(self.pixels)) if note not in self.notes)
        object.__setattr__(self, "notes", self.notes + new)

    @property
    def before(self) -> float:
        """The feature's value on the clean seed."""
        return self.trajectory[0].value

    @property
    def after(self) -> float:
        """The feature's value on the clean result."""
        return self.trajectory[-1].value

    @cached_property
    def image(self) -> Image.Image:
        """The accentuated image, RGB; grey for one channel."""
        return to_picture(self.pixels)

    @cached_property
    def seed_image(self) -> Image.Image:
        """The seed on the canvas, as the accentuated image is shown."""
        return to_picture(self.source)

    @cached_property
    def overlay(self) -> Image.Image:
        """The accentuated image with the opacity map as its alpha channel, RGBA."""
        picture = self.image.convert("RGB")
        picture.putalpha(self.opacity_image)
        return picture

    @cached_property
    def opacity_image(self) -> Image.Image:
        """The opacity map as an 8-bit grey image."""
        return to_picture(self.opacity[None])

    @cached_property
    def what(self) -> Image.Image:
        """What the feature responds to: the accentuated image, laid over the faded seed by the opacity map, RGB."""
        return self.overlay_on("seed")

    @cached_property
    def where(self) -> Image.Image:
        """Where it does: the seed itself, unchanged, seen through the opacity map over the faded seed, RGB."""
        return lay_over(faded(self.seed_image), self.seed_image, self.opacity_image)

    @cached_property
    def frames(self) -> list[Image.Image]:
        """The image from the seed to the result, one per point of the trajectory."""
        return [to_picture(frame) for frame in self.snapshots]

    @cached_property
    def sweep_images(self) -> list[Image.Image]:
        """The image at each strength of the sweep, from the most suppressed to the most accentuated."""
        return [to_picture(point.image) for point in self.sweep]

    def difference(self, gain: float = GAIN) -> Image.Image:
        """Return the accentuated image less the seed, signed: ``128 + 127 · gain · (x − x₀)``, clipped to 0..255.

        Mid-grey is no difference, in every picture alike: it is never stretched to its content. Its ``info`` holds the
        gain, and as ``clipped`` the share of values beyond it.

        Raises
        ------
        InvalidRequestError
            If the gain is not a finite number above 0.
        """
        return difference(self.source, self.pixels, gain)

    def opacity_map(
        self,
        percentile: float | None = None,
        blur: float | None = None,
        *,
        floor: float = 0.0,
        ramp: float = 1.0,
        point: int = -1,
    ) -> Tensor:
        """Return the opacity map [H, W] in 0..1, made anew of the accumulated gradient with other options.

        Parameters
        ----------
        percentile, blur
            As in the recipe; none: the recipe's own.
        floor
            Percentile of the gradient at and below which nothing is opaque; 0: only no gradient is.
        ramp
            Exponent of the finished map: above 1 the faint vanishes, below 1 it comes forward.
        point
            Which point of the trajectory: of the gradient accumulated until then. The last is the result.

        Raises
        ------
        InvalidRequestError
            If an option is out of its range, there is no such point, or the gradient was not kept.
        """
        if not self.accumulated:
            raise InvalidRequestError("this result keeps no accumulated gradient: its opacity map is as it is")
        if not -len(self.accumulated) <= point < len(self.accumulated):
            raise InvalidRequestError(f"there is no point {point}: the trajectory has {len(self.accumulated)}")
        level = self.recipe.opacity_percentile if percentile is None else percentile
        sigma = self.recipe.opacity_blur if blur is None else blur
        return opacity_of(self.accumulated[point].float()[None], level, sigma, floor, ramp)[0]

    def overlay_on(
        self, background: Background = "seed", *, opacity: Tensor | None = None, point: int = -1
    ) -> Image.Image:
        """Return the accentuated image laid over a background by its opacity map, RGB.

        Parameters
        ----------
        background
            ``black``, ``grey``, ``white``, ``checker``, ``seed`` (the seed, grey and dark) or (red, green, blue).
        opacity
            A map [H, W] in 0..1, such as of `opacity_map`; none: the result's own.
        point
            Which point of the trajectory gives the image. The last is the result.

        Raises
        ------
        InvalidRequestError
            If the background is none of these, or the map is not as large as the image.
        """
        chosen = self.opacity if opacity is None else opacity
        if chosen.shape != self.pixels.shape[-2:]:
            raise InvalidRequestError(
                f"the opacity map is {list(chosen.shape)}: expected {list(self.pixels.shape[-2:])}, as the image"
            )
        return lay_over(backdrop(background, self.seed_image), self.frames[point], to_picture(chosen[None]))

    def box(self, threshold: float = 0.5) -> tuple[int, int, int, int] | None:
        """Return the box (left, top, right, bottom) around the opacity above the threshold, for ``image.crop``.

        None if it is nowhere above.
        """
        return bounding_box(self.opacity, threshold)

    def view(self, name: View) -> Image.Image:
        """Return one of the result's pictures by name.

        Raises
        ------
        InvalidRequestError
            With the names there are.
        """
        match name:
            case "seed":
                return self.seed_image
            case "accentuated":
                return self.image
            case "opacity":
                return self.opacity_image
            case "difference":
                return self.difference()
            case "overlay" | "what" | "where":
                picture: Image.Image = getattr(self, name)
                return picture
        raise InvalidRequestError(f"there is no view {name!r}: there are {', '.join(VIEWS)}")

    def strip(
        self, views: Sequence[View] = ("seed", "accentuated", "what", "opacity"), gap: int = GAP_PX
    ) -> Image.Image:
        """Return pictures of the result side by side at full size, RGB, ``gap`` white pixels between them.

        Raises
        ------
        InvalidRequestError
            If no view is named, one is unknown, or the gap is negative.
        """
        if not views:
            raise InvalidRequestError(f"no view is named: expected some of {', '.join(VIEWS)}")
        pictures = [self.overlay_on("checker") if name == "overlay" else self.view(name) for name in views]
        return side_by_side(pictures, gap)

    def figure(self) -> "Figure":
        """Return a matplotlib figure: seed, accentuated image, overlay, opacity map, and the curves of the way there.

        Raises
        ------
        ImportError
            If the extra ``plot`` is not installed.
        """
        from accentor.engine.outputs.figures import figure

        return figure(self)

    def plot_trajectory(self, axes: "Axes | None" = None) -> "Axes":
        """Draw the feature's value and the distance to the seed over the steps; return the value's axes.

        Raises
        ------
        ImportError
            If the extra ``plot`` is not installed.
        """
        from accentor.engine.outputs.figures import plot_trajectory

        return plot_trajectory(self, axes)

    def save_video(
        self,
        path: str | Path,
        *,
        frame_ms: int = FRAME_MS,
        last_ms: int = LAST_FRAME_MS,
        background: Background | None = None,
    ) -> Path:
        """Write the frames from the seed to the result as an MP4 (H.264, 25 pictures a second); return its path.

        Parameters
        ----------
        path
            Ends in ``.mp4``; folders that are missing are made. Odd sizes are padded by one pixel.
        frame_ms, last_ms
            Milliseconds for which a frame and the last frame are shown, rounded to 40 ms and at least that.
        background
            Lay every frame over this background, by the opacity map of the gradient accumulated until then if that was
            kept, else by the result's; none: the frames as they are.

        Raises
        ------
        ImportError
            If the extra ``video`` is not installed.
        InvalidRequestError
            If the name does not end in ``.mp4``, a time is below 1 ms or the background unknown.
        """
        from accentor.engine.outputs.video import write_video

        frames = self.frames
        if background is not None:
            maps = [self.opacity_map(point=point) for point in range(len(self.accumulated))]
            maps = maps or [self.opacity] * len(frames)
            frames = [self.overlay_on(background, opacity=one, point=point) for point, one in enumerate(maps)]
        title = f"{self.feature}: {self.before:.6g} → {self.after:.6g}"
        return write_video(frames, path, frame_ms, last_ms, {"title": title, "comment": _software()})

    def metadata(self, view: str = "accentuated", key: str | None = None) -> Metadata:
        """Return what a PNG of this result says of itself; the same for the same run, whenever it was made."""
        return Metadata(
            software=_software(),
            view=view,
            key=key,
            model=self.model,
            model_digest=self.model_digest,
            feature=str(self.feature),
            recipe=self.recipe.model_dump(mode="json"),
            seed=self.seed,
            before=self.before,
            after=self.after,
            steps=self.trajectory[-1].step,
            stopped_at=self.stopped_at,
            engine_version=ENGINE_VERSION,
            device=self.device,
            precision=self.precision,
            notes=self.notes,
        )

    def png(self, view: View = "accentuated", key: str | None = None) -> bytes:
        """Return one of the result's pictures as a PNG that says what it is: see `accentor.read_metadata`."""
        picture = self.view(view)
        shown = f"{view}, gain {picture.info['gain']:g}" if view == "difference" else view
        return png(picture, self.metadata(shown, key))

    @property
    def artefacts(self) -> tuple[str, ...]:
        """Names of the files."""
        return (*ARTEFACTS, SWEEP_ARTEFACT) if self.sweep else ARTEFACTS

    def files(self, key: str | None = None) -> dict[str, bytes]:
        """Return the artefacts as files: three PNGs, the frames as an animated WebP, and the sweep as one if there is.

        The PNGs say what they are, and the job's content key if it is given: see `accentor.read_metadata`.
        """
        contents = [self.png("accentuated", key), self.png("opacity", key), self.png("overlay", key)]
        contents.append(animation(self.frames))
        if self.sweep:
            contents.append(animation(self.sweep_images, last_ms=FRAME_MS))
        return dict(zip(self.artefacts, contents, strict=True))

    def save(self, folder: str | Path, stem: str = "") -> list[Path]:
        """Write the artefacts into a folder, made if missing, each name behind the stem; return their paths."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, data in self.files().items():
            path = target / f"{stem}{name}"
            path.write_bytes(data)
            paths.append(path)
        return paths

    def to_result(self, spec: JobSpec, key: str) -> Result:
        """Return what is told of this accentuation as the result of a job."""
        height, width = self.pixels.shape[-2:]
        return Result(
            key=key,
            spec=spec,
            before=self.before,
            after=self.after,
            trajectory=self.trajectory,
            sweep=self.sweep_entries,
            stopped_at=self.stopped_at,
            width=width,
            height=height,
            model_digest=self.model_digest,
            engine_version=ENGINE_VERSION,
            device=self.device,
            precision=self.precision,
            seconds=self.seconds,
            notes=self.notes,
            artefacts=self.artefacts,
            created_at=datetime.now(UTC),
        )

    @property
    def sweep_entries(self) -> tuple[SweepEntry, ...]:
        """The sweep's numbers without its images."""
        return tuple(
            SweepEntry(strength=point.strength, step=point.step, value=point.value, distance=point.distance)
            for point in self.sweep
        )

    def _repr_png_(self) -> bytes:
        return self.png()

    def _repr_html_(self) -> str:
        from accentor.engine.outputs.notebook import card

        return card(self)


def _software() -> str:
    return f"Accentor {accentor.__version__}"

"""The result of accentuating one feature in one image."""

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from PIL import Image
from torch import Tensor

from accentor.spec import ENGINE_VERSION, Feature, JobSpec, Recipe, Result, Snapshot

ARTEFACTS = ("accentuated.png", "opacity.png", "overlay.png", "frames.webp")
FRAME_MS = 160
LAST_FRAME_MS = 1_200
WEBP_QUALITY = 90


@dataclass(frozen=True, eq=False)
class Accentuation:
    """One accentuation: the picture, where it happened, and how the feature's value changed.

    Attributes
    ----------
    feature, recipe, seed
        What was asked for; ``seed`` is the random seed.
    source
        The seed image on the canvas, float [3, H, W] in 0..1.
    pixels
        The accentuated image, float [3, H, W] in 0..1, raw: never stretched.
    opacity
        Where, float [H, W] in 0..1.
    before, after
        The feature's value on the clean seed and on the clean result.
    trajectory
        Per snapshot: step, value, distance in the regularisation layer.
    snapshots
        The image at each snapshot, uint8 [3, H, W], from the seed to the result.
    seconds
        Its share of the computation.
    notes
        What a reader of the picture should know.
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
        """The accentuated image, RGB."""
        return to_picture(self.pixels)

    @cached_property
    def overlay(self) -> Image.Image:
        """The accentuated image with the opacity map as its alpha channel, RGBA."""
        picture = self.image.copy()
        picture.putalpha(self.opacity_image)
        return picture

    @cached_property
    def opacity_image(self) -> Image.Image:
        """The opacity map as an 8-bit grey image."""
        return to_picture(self.opacity[None])

    @cached_property
    def frames(self) -> list[Image.Image]:
        """The image from the seed to the result, RGB, one per snapshot."""
        return [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in self.snapshots]

    def files(self) -> dict[str, bytes]:
        """Return the artefacts as files: three PNGs, and the frames as an animated WebP."""
        contents = (_png(self.image), _png(self.opacity_image), _png(self.overlay), _animation(self.frames))
        return dict(zip(ARTEFACTS, contents, strict=True))

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
            width=width,
            height=height,
            model_digest=self.model_digest,
            engine_version=ENGINE_VERSION,
            device=self.device,
            seconds=self.seconds,
            notes=self.notes,
            artefacts=ARTEFACTS,
            created_at=datetime.now(UTC),
        )

    def _repr_png_(self) -> bytes:
        return _png(self.image)


def to_bytes(pixels: Tensor) -> Tensor:
    """Return pixels in 0..1 as uint8, rounded."""
    return (pixels * 255).round().clamp(0, 255).byte()


def to_picture(pixels: Tensor) -> Image.Image:
    """Return float pixels [3, H, W] or [1, H, W] in 0..1 as an 8-bit image."""
    values = to_bytes(pixels.detach().cpu()).permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(values if values.shape[2] == 3 else values[:, :, 0])


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _animation(frames: list[Image.Image]) -> bytes:
    buffer = io.BytesIO()
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    frames[0].save(
        buffer, "WEBP", save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=WEBP_QUALITY
    )
    return buffer.getvalue()

"""Make the pictures of docs/outputs.md from the reference model and its scenes."""

import io
from pathlib import Path

from PIL import Image

import accentor
from accentor.engine import figure_grid
from accentor.engine.reference import sample_paths

IMAGES = Path(__file__).parent / "images"
RECIPE = accentor.Recipe(strengths=(-1, -0.5, 0, 0.5, 1))
VIEWS = ("seed", "accentuated", "what", "where", "overlay", "opacity", "difference")
STRIP_WIDTH_PX = 1_226


def main() -> None:
    """Write the strip of views and the grid of strengths."""
    model = accentor.load_model("reference", device="cpu")
    scenes = [*sample_paths()[:2]] * 2
    features = ["logit:stripes"] * 2 + ["logit:star"] * 2
    results = accentor.accentuate(model, scenes, features, RECIPE)
    strip = results[0].strip(VIEWS)
    size = (STRIP_WIDTH_PX, round(strip.height * STRIP_WIDTH_PX / strip.width))
    strip.resize(size, Image.Resampling.LANCZOS).save(IMAGES / "outputs-strip.webp", quality=82)
    drawn = io.BytesIO()
    figure_grid(results, columns="strengths").savefig(drawn, dpi=80)
    Image.open(drawn).convert("RGB").save(IMAGES / "outputs-strengths.webp", quality=80)


if __name__ == "__main__":
    main()

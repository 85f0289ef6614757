"""What a PNG says of itself: there and back."""

import io
import subprocess
import sys

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tests.engine.results import DIGEST, RECIPE, made_result

import accentor
from accentor.errors import InvalidImageError, InvalidRecipeError
from accentor.metadata import Metadata, read_metadata
from accentor.spec import ENGINE_VERSION, Logit

KEY = "a" * 64
LABEL = "Grünspecht ☃ 緑 🦜"


@pytest.fixture
def result():
    return made_result(
        feature=Logit(unit=LABEL), notes=("first\nline", "zweite – Zeile"), precision="bfloat16", stopped_at=3
    )


def with_text(**chunks):
    info = PngInfo()
    for keyword, value in chunks.items():
        info.add_itxt(f"accentor:{keyword}", value)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def test_round_trip_through_the_files(result, tmp_path):
    for name, data in result.files(KEY).items():
        (tmp_path / name).write_bytes(data)
    for view in ("accentuated", "opacity", "overlay"):
        path = tmp_path / f"{view}.png"
        assert accentor.read_metadata(path) == Metadata(
            software=f"Accentor {accentor.__version__}",
            view=view,
            key=KEY,
            model="tiny",
            model_digest=DIGEST,
            feature=f"logit:{LABEL}",
            recipe=RECIPE.model_dump(mode="json"),
            seed=3,
            before=1.5,
            after=4.0,
            steps=4,
            stopped_at=3,
            engine_version=ENGINE_VERSION,
            device="cpu",
            precision="bfloat16",
            notes=("first\nline", "zweite – Zeile"),
        )
        assert read_metadata(str(path)).to_recipe() == RECIPE
        with Image.open(path) as picture:
            assert read_metadata(picture) == read_metadata(path.read_bytes())


def test_without_key_and_stop_there_are_no_chunks_for_them(result):
    plain = made_result()
    with Image.open(io.BytesIO(plain.png())) as picture:
        text = picture.text
    assert b"tEXt" not in plain.png()
    assert "accentor:key" not in text
    assert "accentor:stopped_at" not in text
    assert text["Software"] == f"Accentor {accentor.__version__}"
    assert text["Description"] == "logit:ash: 1.5 → 4 (accentuated)"
    assert text["accentor:before"] == "1.5"
    assert read_metadata(plain.png()).key is None


def test_numbers_survive_to_the_last_bit():
    value = 0.1 + 0.2
    first = made_result().trajectory[0].model_copy(update={"value": value})
    assert read_metadata(made_result(trajectory=(first,)).png()).before == value


def test_difference_states_its_gain(result):
    assert read_metadata(result.png("difference")).view == "difference, gain 4"


def test_the_same_run_gives_the_same_bytes():
    assert made_result(seconds=1.0).files() == made_result(seconds=2.0).files()


def test_pixels_are_not_touched(result):
    with Image.open(io.BytesIO(result.png())) as picture:
        assert picture.tobytes() == result.image.tobytes()


def test_chunks_behind_the_pixels_are_found(result):
    whole, bare = result.png(), io.BytesIO()
    Image.open(io.BytesIO(whole)).save(bare, "PNG")
    told = whole[whole.index(b"iTXt") - 4 : whole.index(b"IDAT") - 4]
    end = bare.getvalue().index(b"IEND") - 4
    moved = bare.getvalue()[:end] + told + bare.getvalue()[end:]
    assert moved.index(b"iTXt") > moved.index(b"IDAT")
    assert read_metadata(moved) == read_metadata(whole)


def test_a_later_version_may_say_more():
    with Image.open(io.BytesIO(made_result().png())) as picture:
        text = dict(picture.text)
    text |= {"accentor:mood": "good", "accentor:recipe": '{"steps": 4, "warp": 9}'}
    metadata = Metadata.from_text(text)
    assert metadata.recipe == {"steps": 4, "warp": 9}
    with pytest.raises(InvalidRecipeError, match="warp"):
        metadata.to_recipe()


def test_missing(tmp_path):
    plain = tmp_path / "plain.png"
    Image.new("RGB", (8, 8)).save(plain)
    with pytest.raises(InvalidImageError, match=r"plain\.png carries no metadata of Accentor"):
        read_metadata(plain)
    with pytest.raises(InvalidImageError, match=r"nothing\.png cannot be read as a PNG"):
        read_metadata(tmp_path / "nothing.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.jpg")
    with pytest.raises(InvalidImageError, match=r"photo\.jpg cannot be read as a PNG"):
        read_metadata(tmp_path / "photo.jpg")
    with pytest.raises(InvalidImageError, match="no metadata"):
        read_metadata(Image.new("RGB", (8, 8)))


def test_damaged(result):
    data = result.png()
    with pytest.raises(InvalidImageError, match="the image cannot be read as a PNG"):
        read_metadata(data[: len(data) // 2])
    with pytest.raises(InvalidImageError, match="accentor:seed: Field required"):
        read_metadata(with_text(feature="logit:1"))
    with pytest.raises(InvalidImageError, match="'{\"steps\": ' is no JSON"):
        read_metadata(with_text(feature="logit:1", recipe='{"steps": '))
    with pytest.raises(InvalidImageError, match="accentor:before: "):
        read_metadata(with_text(feature="logit:1", before="NaN"))


def test_reading_needs_no_torch():
    code = "import sys, accentor; accentor.read_metadata; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "False"]

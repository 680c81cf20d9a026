"""Windows cut out of images: against a plain bilinear sampler, at borders, and with bad files."""

import numpy as np
import pytest
from PIL import Image

from common.errors import InputError
from common.images import heatmap
from common.images.crop import crop_image, open_rgb, shrink_on_decode


def noise(height: int = 50, width: int = 70) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(side: int = 300) -> Image.Image:
    return Image.fromarray(noise(9, 9)).resize((side, side), Image.Resampling.BICUBIC)


def plain_crop(image: np.ndarray, affine: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear samples in float64, black outside, not rounded."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    x, y = np.moveaxis(np.stack((columns, rows, np.ones_like(rows)), -1) @ affine.T, -1, 0)
    framed = np.zeros((image.shape[0] + 4, image.shape[1] + 4, 3))
    framed[2:-2, 2:-2] = image
    x, y = np.clip(x, -2, image.shape[1]) + 2, np.clip(y, -2, image.shape[0]) + 2
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    u, v = (x - left)[..., None], (y - top)[..., None]
    upper = framed[top, left] * (1 - u) + framed[top, left + 1] * u
    return upper * (1 - v) + (framed[top + 1, left] * (1 - u) + framed[top + 1, left + 1] * u) * v


@pytest.mark.parametrize("rotation", [0.0, 33.0, -60.0, 180.0])
@pytest.mark.parametrize(("center", "side"), [((35, 25), 30), ((2, 3), 50), ((68, 48), 90), ((-10, 30), 64)])
def test_against_a_plain_sampler(center, side, rotation):
    window = heatmap.crop_affine(np.array(center, float), side, rotation, (48, 40), inverse=True)
    found = crop_image(Image.fromarray(noise()), window, (48, 40)).numpy().astype(float)
    assert np.abs(found - plain_crop(noise(), window, (48, 40))).max() < 0.51


def test_a_window_of_the_whole_image_copies_it():
    whole = np.array([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)])
    assert (crop_image(Image.fromarray(noise()), whole, (50, 70)).numpy() == noise()).all()


def test_a_window_beside_the_image_is_black():
    window = heatmap.crop_affine(np.array((500.0, 500.0)), 40.0, 10.0, (16, 16), inverse=True)
    assert not crop_image(Image.fromarray(noise()), window, (16, 16)).any()


def test_mirroring_in_the_map_is_mirroring_the_image():
    window = heatmap.crop_affine(np.array((30.0, 20.0)), 45.0, 20.0, (32, 32), inverse=True)
    mirrored = crop_image(Image.fromarray(noise()[:, ::-1]), window, (32, 32))
    composed = crop_image(Image.fromarray(noise()), heatmap.mirror_x(window, 70), (32, 32))
    assert (mirrored.int() - composed.int()).abs().max() <= 1


def test_shrinking_on_decode_looks_at_the_same_place(tmp_path):
    smooth().save(tmp_path / "a.jpg", quality=95)
    for rotation in (0.0, 25.0):
        window = heatmap.crop_affine(np.array((140.0, 160.0)), 250.0, rotation, (64, 64), inverse=True)
        full = crop_image(open_rgb(tmp_path / "a.jpg"), window, (64, 64)).float()
        image = open_rgb(tmp_path / "a.jpg")
        smaller = crop_image(image, shrink_on_decode(image, window), (64, 64)).float()
        assert image.size == (150, 150)
        apart = heatmap.crop_affine(np.array((141.0, 160.0)), 250.0, rotation, (64, 64), inverse=True)
        moved = crop_image(open_rgb(tmp_path / "a.jpg"), apart, (64, 64)).float()
        middle = slice(8, 56)  # beyond them windows reach over the image's edge
        difference = (full - smaller)[middle, middle].abs().mean()
        assert difference < 1 and difference < 0.5 * (full - moved)[middle, middle].abs().mean()


def test_nothing_shrinks_where_the_crop_is_as_fine_as_the_image(tmp_path):
    smooth(100).save(tmp_path / "a.jpg")
    image = open_rgb(tmp_path / "a.jpg")
    window = heatmap.crop_affine(np.array((50.0, 50.0)), 90.0, 0.0, (64, 64), inverse=True)
    assert shrink_on_decode(image, window) is window and image.size == (100, 100)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_modes(tmp_path, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    smooth(20).convert(mode).save(tmp_path / f"a.{suffix}")
    assert open_rgb(tmp_path / f"a.{suffix}").mode == "RGB"


def test_exif_rotation_is_undone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth(20).resize((40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert open_rgb(tmp_path / "a.jpg").size == (20, 40)


def test_truncated_images_are_named(tmp_path):
    smooth().save(tmp_path / "a.jpg", quality=95)
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    window = heatmap.crop_affine(np.array((150.0, 150.0)), 250.0, 0.0, (64, 64), inverse=True)
    with pytest.raises(InputError, match=r"a\.jpg is truncated or damaged"):
        crop_image(open_rgb(tmp_path / "a.jpg"), window, (64, 64))


def test_other_files_and_missing_ones_are_named(tmp_path):
    (tmp_path / "a.jpg").write_text("not a picture")
    with pytest.raises(InputError, match=r"a\.jpg is not an image"):
        open_rgb(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"b\.jpg does not exist"):
        open_rgb(tmp_path / "b.jpg")

"""Frames of a video through ffmpeg, folders and images."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import InputError
from common.video import frames

needs_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="needs ffmpeg on the PATH"
)
GREY = (30, 90, 150, 210)


def write_video(path: Path, fps: float = 12.5) -> Path:
    """Four frames of growing brightness, 64 x 48."""
    from matplotlib.animation import FFMpegWriter
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.64, 0.48), dpi=100)
    picture = figure.figimage(np.zeros((48, 64, 3), np.uint8))
    writer = FFMpegWriter(fps=fps)
    with writer.saving(figure, str(path), 100):
        for grey in GREY:
            picture.set_data(np.full((48, 64, 3), grey, np.uint8))
            writer.grab_frame()
    return path


@needs_ffmpeg
@pytest.mark.parametrize("name", ["film.mp4", "-i film.mkv"])  # a name that looks like an option
def test_video(tmp_path, monkeypatch, name):
    write_video(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with frames.opened(Path(name)) as pictures:
        assert pictures.fps == pytest.approx(12.5) and len(pictures) == len(GREY)
        assert pictures[0].size == (64, 48)
        shades = [np.asarray(pictures[i])[24, 32].mean() for i in range(len(GREY))]
        np.testing.assert_allclose(shades, GREY, atol=6)
        part = pictures.part(slice(1, 3))
        assert len(part) == 2 and len(pictures) == 4 and abs(np.asarray(part[0]).mean() - GREY[1]) < 6
        folder = pictures.places[0][0].parent
    assert not folder.exists()


def test_folders_and_images(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    Image.new("RGB", (4, 3)).save(tmp_path / "b.jpg")
    for path, count in ((tmp_path, 2), (tmp_path / "a.png", 1)):
        with frames.opened(path) as pictures:
            assert len(pictures) == count and pictures.fps is None
    with frames.opened(None) as pictures:
        assert pictures is None
    with pytest.raises(InputError, match="does not exist"), frames.opened(tmp_path / "none.mp4"):
        pass


def test_names_are_counted_and_a_phones_photo_is_one_picture(tmp_path):
    for number in (2, 10, 1):
        Image.new("RGB", (number, 1)).save(tmp_path / f"frame{number}.png")
    assert [picture.width for picture in frames.Pictures(tmp_path)] == [1, 2, 10]
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (64, 48)).save(photo, "MPO", save_all=True, append_images=[Image.new("RGB", (16, 12))])
    with Image.open(photo) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    assert [picture.size for picture in frames.Pictures(photo)] == [(64, 48)]


def test_hidden_files_of_macos_are_no_pictures(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "._a.png").write_bytes(b"Mac OS X")
    assert [file.name for file, _ in frames.Pictures(tmp_path).places] == ["a.png"]


def test_upright_as_the_camera_says(tmp_path):
    image, exif = Image.new("RGB", (6, 4)), Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    image.save(tmp_path / "a.jpg", exif=exif)
    with frames.opened(tmp_path / "a.jpg") as pictures:
        assert pictures[0].size == (4, 6)


def test_without_ffmpeg(tmp_path, monkeypatch):
    (tmp_path / "film.mp4").write_bytes(b"video")
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(InputError, match="no ffmpeg or ffprobe on the PATH.*folder"),
        frames.opened(tmp_path / "film.mp4"),
    ):
        pass


@needs_ffmpeg
def test_no_video(tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"video")
    with pytest.raises(InputError, match="film.mp4 cannot be read by ffprobe"), frames.opened(tmp_path / "film.mp4"):
        pass


def test_kinds(tmp_path):
    for name, wanted in (("a.mp4", True), ("a.MOV", True), ("a.mpeg", True), ("a.gif", False), ("a.PNG", False)):
        (tmp_path / name).touch()
        assert frames.is_video(tmp_path / name) == wanted
    assert not frames.is_video(tmp_path)

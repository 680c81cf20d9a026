"""Frames of a video through PyAV or ffmpeg, folders and images."""

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


def without_pyav(monkeypatch) -> None:
    monkeypatch.setattr(frames, "find_spec", lambda name: None)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["film.mp4", "-i film.mkv"])  # a name that looks like an option
def test_video(tmp_path, monkeypatch, name):
    write_video(tmp_path / name)
    without_pyav(monkeypatch)
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
    without_pyav(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(InputError, match="neither PyAV nor ffmpeg or ffprobe on the PATH.*pip install av.*folder"),
        frames.opened(tmp_path / "film.mp4"),
    ):
        pass


@needs_ffmpeg
def test_no_video(tmp_path, monkeypatch):
    without_pyav(monkeypatch)
    (tmp_path / "film.mp4").write_bytes(b"video")
    with pytest.raises(InputError, match="film.mp4 cannot be read by ffprobe"), frames.opened(tmp_path / "film.mp4"):
        pass


def test_kinds(tmp_path):
    for name, wanted in (("a.mp4", True), ("a.MOV", True), ("a.mpeg", True), ("a.gif", False), ("a.PNG", False)):
        (tmp_path / name).touch()
        assert frames.is_video(tmp_path / name) == wanted
    assert not frames.is_video(tmp_path)


# ------------------------------------------------------------ PyAV


def film(path: Path, times=None, size=(64, 48), count: int = 30) -> Path:
    """A video by PyAV, `count` frames of growing brightness, the left half darker, at `times` in 1/100 s."""
    av = pytest.importorskip("av")
    from fractions import Fraction

    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        for i in range(count):
            picture = np.full((size[1], size[0], 3), 20 + 5 * i, np.uint8)
            picture[: size[1] // 2, : size[0] // 2] = 250
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = (4 * i if times is None else times[i]), Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def shade(picture) -> float:
    return (np.asarray(picture)[-10:, -10:].mean() - 20) / 5


def test_frames_of_a_video_forward_and_back(tmp_path):
    with frames.opened(film(tmp_path / "a:b.mp4")) as video:
        assert len(video) == 30 and video.fps == pytest.approx(25) and video[0].size == (64, 48)
        np.testing.assert_allclose([shade(picture) for picture in video], range(30), atol=1)
        np.testing.assert_allclose([shade(video[i]) for i in (3, 20, 4, -1)], (3, 20, 4, 29), atol=1)
        part = video.part(slice(5, 9))
        np.testing.assert_allclose([shade(picture) for picture in part], range(5, 9), atol=1)
        np.testing.assert_allclose(part.times, np.arange(5, 9) / 25)
        np.testing.assert_allclose([shade(picture) for picture in part.part(slice(1, 3))], (6, 7), atol=1)


def test_frames_keep_their_times(tmp_path):
    """A variable rate: every frame is there once, at its time."""
    times = np.cumsum([0, *[2, 10, 4, 4, 30] * 6][:30])
    with frames.opened(film(tmp_path / "film.mp4", times)) as video:
        np.testing.assert_allclose(video.times, times / 100)
        assert len(list(video)) == 30


@pytest.mark.parametrize(
    "turn, corner", [((0, 1, -1, 0), (47, 0)), ((-1, 0, 0, -1), (63, 47)), ((0, -1, 1, 0), (0, 63))]
)
def test_a_phone_s_video_is_turned_upright(tmp_path, turn, corner):
    """The bright corner, stored at the top left, is shown where the file's matrix puts it."""
    path = film(tmp_path / "film.mp4", count=3)
    identity, matrix = (
        (65536 * np.array(m)).astype(">i4").tobytes() for m in ((1, 0, 0, 0, 1), (*turn[:2], 0, *turn[2:]))
    )
    content = path.read_bytes()
    place = content.index(b"tkhd") + 44
    assert content[place : place + 20] == identity
    path.write_bytes(content[:place] + matrix + content[place + 20 :])
    with frames.opened(path) as video:
        picture = np.asarray(video[0]).mean(-1)
        x, y = corner
        assert picture.shape == ((48, 64) if turn[0] else (64, 48))
        assert picture[y, x] > 200 > picture[-1 - y, -1 - x]


def test_a_damaged_video_is_read_as_far_as_it_goes(tmp_path, caplog):
    """Cut off: the frames that are there, and a warning; from the start: one line."""
    path = film(tmp_path / "film.mp4")
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 2])
    with frames.opened(path) as video:
        found = [shade(picture) for picture in video]
        assert 5 < len(found) == len(video) == len(video.times) < 30
        np.testing.assert_allclose(found[:-1], range(len(found) - 1), atol=1)  # of the last one a part is missing
        with pytest.raises(InputError, match="has no frame 29"):
            video[29]
    assert "of 30 frames" in caplog.text
    path.write_bytes(content[:100])
    for bad in (path, tmp_path / "text.mp4"):
        (tmp_path / "text.mp4").write_bytes(b"video")
        with pytest.raises(InputError, match="cannot be read as a video|has no video in it"), frames.opened(bad):
            pass


def test_music_is_no_video(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "song.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(InputError, match="no video in it"), frames.opened(tmp_path / "song.mkv"):
        pass


def test_an_animation_s_times(tmp_path):
    shades = [Image.new("L", (8, 8), 40 * i) for i in range(4)]
    shades[0].save(tmp_path / "a.gif", save_all=True, append_images=shades[1:], duration=[100, 200, 50, 50])
    pictures = frames.Pictures(tmp_path / "a.gif")
    np.testing.assert_allclose(pictures.times, (0, 0.1, 0.3, 0.35))
    assert pictures.fps == pytest.approx(10)

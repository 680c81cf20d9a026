"""Frames by number and time: gaps in the numbering, pictures that belong, frames that come unevenly."""

from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError
from common.video.numbering import at_rate, common_rate, is_even, last_number, on_pictures, shown_at, with_gaps

FILE = Path("a.json")


def filled(numbers, form="{}.jpg") -> list[str]:
    return with_gaps([[] for _ in numbers], [form.format(number) for number in numbers], FILE)[1]


@pytest.mark.parametrize("numbers", [[0, *range(3, 120, 3), 120, 121], sorted({0, 999, *range(7, 990, 26), 500})])
def test_sparse_frames_keep_their_places(numbers, caplog):
    """48 of 120, with one step of 1; 40 of 1,000, too."""
    frames = filled(numbers)
    assert len(frames) == numbers[-1] + 1 and [frames[n] for n in numbers] == [f"{n}.jpg" for n in numbers]
    assert frames[1] == "1 (not in the file)"
    assert f"{len(frames) - len(numbers)} of the {len(frames)} frames from 0.jpg to" in caplog.text


def test_irregular_frames_without_neighbours():
    numbers = np.cumsum([0, 2, 7, 3, 11, 5, 4, 9, 8, 30, 6, 2]).tolist()
    assert len(filled(numbers)) == numbers[-1] + 1


@pytest.mark.parametrize(
    "numbers, words",
    [
        ([139, 285, 632, 724, 776, 785, 802], "taken for names"),  # COCO's photos
        ([7, 20, 100], "taken for names"),
        ([0, 1, 10**9], "taken for names"),
        ([0, 33, 67, 100, 133, 167], "taken for names"),  # milliseconds
        ([0, 5, 10, 15], "in steps of 5"),
        ([3, 2, 1], ""),
        ([4, 5, 6], ""),
    ],
)
def test_numbers_that_are_names(numbers, words, caplog):
    assert filled(numbers) == [f"{number}.jpg" for number in numbers] and words in caplog.text
    assert bool(caplog.text) == bool(words)


def test_last_number():
    assert last_number("video_2_000012_keypoints") == 12 and last_number("7.jp2") == 7 and last_number("a.json") is None
    assert last_number("3 (not in the file)") == 3


def test_pictures_that_keypoints_are_of():
    assert on_pictures(["b", "d"], ["a.png", "b.png", "c.png", "d.png"], 4) == [1, 3]
    assert on_pictures(["x_2_keypoints", "x_3_keypoints"], ["f01.png", "f02.png", "f03.png"], 3) == [1, 2]
    assert on_pictures(["0.jpg", "2.jpg"], None, 5) == [0, 2]  # frames of a video are counted from 0
    assert on_pictures(["1", "5"], None, 5) == [0, 4]  # but from 1 where the last has that number
    for frames in (["0", "5"], ["7"], ["left", "right"], ["2", "1"], []):
        assert on_pictures(frames, None, 5) is None


# ------------------------------------------------------------ uneven times


def test_an_even_film_of_uneven_frames():
    times = 2 + np.array([0, 0.1, 0.2, 0.3, 0.72, 0.77, 0.82, 1.0])
    rows = shown_at(times, 10)
    assert rows.tolist() == [0, 1, 2, 3, 3, 3, 4, 4, 6, 6, 7]
    line = np.stack((times, 3 * times), -1)[:, None] * np.ones((1, 2, 1))
    even = at_rate(line, times, 10)
    assert even.shape == (11, 2, 2) and np.allclose(even[:, 0, 0], 2 + np.arange(11) / 10)
    assert not is_even(times, 10) and is_even(times[:4], 10) and is_even(times[:1], 10)
    assert common_rate(times) == pytest.approx(10) and common_rate(times[:1]) is None
    jitter = np.arange(500) / 29.97 + np.random.default_rng(0).uniform(-0.004, 0.004, 500)
    assert is_even(jitter, 29.97) and shown_at(jitter, 29.97).tolist() == list(range(500))


def test_a_film_without_end_is_refused():
    with pytest.raises(InputError, match="2 frames go from 0 to 1e.09 s: .* pictures at 25"):
        shown_at(np.array([0, 1e9]), 25)

"""Arrays of keypoints: people before frames, numbers and times of frames, what demo.py wrote."""

import numpy as np
import pytest

from common.errors import InputError
from common.video.read import read_keypoints
from tests.common.video.test_follow import clip
from tests.common.video.test_read import body, expected


@pytest.mark.parametrize("key", ["reconstruction", "keypoints"])
@pytest.mark.parametrize("people", [1, 2])
def test_people_before_frames(tmp_path, caplog, key, people):
    """MHFormer's demo saves (people, frames, 17, 2)."""
    walk, want = expected(body(30)), expected(body(30, 1))
    array = np.stack((walk, 0.5 * want + (900, 0)))[:people]
    np.savez(tmp_path / "a.npz", **{key: array})
    found = read_keypoints(tmp_path / "a.npz")
    assert found.layout_found == "h36m17" and len(found.people) == people and found.total == 30
    assert np.allclose(found.points, walk, atol=1e-2)
    assert f"taken for (people, frames, joints, coordinates): {people} people" in caplog.text
    caplog.clear()
    np.savez(tmp_path / "b.npz", **{key: np.swapaxes(array, 0, 1)})
    assert np.array_equal(read_keypoints(tmp_path / "b.npz").points, found.points) and "taken for" not in caplog.text


def test_many_people_in_few_frames(tmp_path):
    """The first axis is of frames, although it is the shorter one."""
    walk = expected(body(3))
    np.save(tmp_path / "a.npy", np.stack([walk + (400 * i, 0) for i in range(8)], 1))
    found = read_keypoints(tmp_path / "a.npy")
    assert found.total == 3 and len(found.people) == 8
    np.save(tmp_path / "b.npy", walk[:1, None])
    assert read_keypoints(tmp_path / "b.npy").total == 1


def test_numbers_and_times_of_frames(tmp_path):
    points = clip(10)
    keep = [0, 1, 2, 5, 6, 9]
    np.savez(tmp_path / "numbers.npz", keypoints=points[keep], frames=keep)
    found = read_keypoints(tmp_path / "numbers.npz")
    assert found.total == 10 and np.allclose(found.points[keep], expected(body(10))[keep], atol=1e-2)
    assert np.allclose(found.points[3], found.points[2] + (found.points[5] - found.points[2]) / 3, atol=1e-2)
    assert found.times is None and np.allclose(found.seconds(20), np.arange(10) / 20)

    times = np.array([0, 0.04, 0.08, 0.3, 0.34, 0.5])
    points[2, :, 2] = 0
    np.savez(tmp_path / "times.npz", keypoints=points[:6], times=times, frames=[f"{t}.jpg" for t in keep], fps=12.0)
    found = read_keypoints(tmp_path / "times.npz")
    assert np.array_equal(found.times, times) and found.fps == 12 and found.frames[3] == "5.jpg"
    share = (times[2] - times[1]) / (times[3] - times[1])  # what is filled in moves by time, not by frames
    want = expected(body(10))
    assert np.allclose(found.points[2], want[1] + share * (want[3] - want[1]), atol=1e-2)
    for bad in (times[::-1], times[:4], np.array([0, 1, 2, 3, 4, np.nan])):
        np.savez(tmp_path / "bad.npz", keypoints=points[:6], times=bad)
        with pytest.raises(InputError, match="expected 6 rising numbers, seconds"):
            read_keypoints(tmp_path / "bad.npz")

"""MPI-INF-3DHP's release: people and cameras come out as they went into files of its form; what is refused."""

import numpy as np
import pytest

from common.datasets.captures import in_camera, projected
from common.datasets.mpi_inf_release import testing_takes as read_testing
from common.datasets.mpi_inf_release import training_take
from common.errors import InputError
from tests import mpi_inf_files
from tests.mpi_inf_files import UNIVERSAL, write_testing, write_training


def test_training_video(tmp_path):
    world, views = write_training(tmp_path / "S1" / "Seq1")
    take = training_take(tmp_path / "S1" / "Seq1", (2, 0, 13), universal=False)
    np.testing.assert_allclose(take.poses, world, atol=1e-9)  # z up again
    assert [view["name"] for view in take.cameras] == ["2", "0", "13"]
    for number, view, points in zip((2, 0, 13), take.cameras, take.keypoints, strict=True):
        assert view["size"] == (2048, 2048) and view["focal_length"].tolist() == [1500, 1500]
        np.testing.assert_allclose(points, views[number])
        np.testing.assert_allclose(projected(take.poses, view), views[number], atol=1e-6)
    assert len(training_take(tmp_path / "S1" / "Seq1").cameras) == 5


def test_universal_coordinates_scale_the_person_and_not_the_picture(tmp_path):
    world, views = write_training(tmp_path)
    take = training_take(tmp_path, (0, 4))
    np.testing.assert_allclose(take.poses, UNIVERSAL * world, atol=1e-9)
    for number, view in zip((0, 4), take.cameras, strict=True):
        np.testing.assert_allclose(projected(take.poses, view), views[number], atol=1e-6)


def test_long_videos_are_halved(tmp_path, monkeypatch):
    monkeypatch.setattr("common.datasets.mpi_inf_release.LONG", 6)
    world, _ = write_training(tmp_path, frames=7)
    np.testing.assert_allclose(training_take(tmp_path, universal=False).poses, world[::2], atol=1e-9)


def test_testing_video(tmp_path):
    seen, pixels = write_testing(tmp_path / "TS1", "0111011110", "1111112266")
    takes, off = read_testing(tmp_path / "TS1")
    rows = {
        "Standing or walking 1": slice(1, 4), "Standing or walking 2": slice(5, 6), "Exercise 1": slice(6, 8),
        "Sports 1": slice(8, 9),
    }  # fmt: skip
    assert takes.keys() == rows.keys() and off < 1e-6
    for name, take in takes.items():
        (view,), (points,) = take.cameras, take.keypoints
        assert view["size"] == (2048, 2048) and view["name"] == "TS1"
        np.testing.assert_allclose(view["focal_length"], 1490)  # found from poses and pixels
        np.testing.assert_allclose(view["center"], (1015, 1043))
        np.testing.assert_allclose(in_camera(take.poses, view), seen[rows[name]], atol=1e-9)
        np.testing.assert_allclose(points, pixels[rows[name]])
        assert (take.poses[:, 10, 2] > take.poses[:, 0, 2]).all()  # the head is up


def test_activities_may_be_missing(tmp_path):
    write_testing(tmp_path / "TS6", "1101", "1111", activity_annotation=None)
    takes, _ = read_testing(tmp_path / "TS6")
    assert list(takes) == ["Miscellaneous 1", "Miscellaneous 2"]
    assert takes["Miscellaneous 1"].cameras[0]["size"] == (1920, 1080)


def replaced(old: str, new: str):
    def change(folder):
        file = folder / "camera.calibration"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    return change


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda folder: (folder / "annot.mat").unlink(), "annot.mat does not exist"),
        (lambda folder: (folder / "camera.calibration").unlink(), "camera.calibration: .* lies beside annot.mat"),
        (lambda folder: (folder / "camera.calibration").write_text("no"), "no camera 0"),
        (replaced("1500 0 1020 0 0 1500", "1500 0 1020 0 1500"), "camera 0 has 15 numbers for intrinsic; expected 16"),
        (replaced("intrinsic   1500", "intrinsic   x"), "intrinsic is not of numbers"),
        (replaced("extrinsic   1.0", "extrinsic   2.0"), "camera 0: the extrinsic matrix holds no rotation"),
        (
            replaced("intrinsic   1500 0 1020", "intrinsic   1500 0 1220"),
            "camera 0, and .* the middle joint is 200 pixels",
        ),
    ],
)
def test_bad_training_files(tmp_path, change, words):
    write_training(tmp_path)
    change(tmp_path)
    with pytest.raises(InputError, match=words) as caught:
        training_take(tmp_path)
    assert "\n" not in str(caught.value)


def test_people_that_lie_and_cameras_that_are_not_there(tmp_path, monkeypatch):
    write_training(tmp_path)
    with pytest.raises(InputError, match="no camera 14; there are 0 to 13"):
        training_take(tmp_path, (0, 14))
    monkeypatch.setattr(mpi_inf_files, "STANDING", np.roll(mpi_inf_files.STANDING, 1, -1))
    write_training(tmp_path)
    with pytest.raises(InputError, match="do not stand along the y axis"):
        training_take(tmp_path)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"univ_annot3": None}, "has no array univ_annot3; it has: activity_annotation, annot2, annot3"),
        ({"annot2": np.zeros((4, 17, 2))}, r"annot2 has shape \(4, 17, 2\); expected numbers \(frames, 1, 17, 2\)"),
        ({"annot2": np.zeros((3, 1, 17, 2))}, "have 4, 3, 4, 4 frames, 3 of them valid"),
        ({"annot2": np.random.default_rng(0).uniform(0, 2000, (4, 1, 17, 2))}, "the middle joint is .* pixels off"),
        ({"valid_frame": np.zeros((4, 1))}, "0 of them valid"),
        ({"activity_annotation": np.full((4, 1), 8.0)}, "other numbers than 1 to 7"),
    ],
)
def test_bad_testing_files(tmp_path, changes, words):
    write_testing(tmp_path / "TS2", "1101", "1111", **changes)
    with pytest.raises(InputError, match=words) as caught:
        read_testing(tmp_path / "TS2")
    assert "\n" not in str(caught.value)

"""BlazePose around networks that are plain functions: geometry of regions, anchors, landmarks; and its two files."""

import hashlib
import subprocess
import zipfile

import numpy as np
import pytest
from PIL import Image

from common.errors import InputError
from common.skeleton import COCO_17
from common.video import blazepose, detector_files, layouts
from tests.conftest import ROOT

PLACES = np.linspace(60, 200, 78).reshape(39, 2)[:, ::-1].copy()  # of the landmarks in the input


def network_of(places=PLACES, score: float = 1.0, maps=None) -> blazepose.BlazePose:
    """Sees nobody, and everybody's landmarks at `places`."""
    rows = np.zeros((39, 5))
    rows[:, :2], rows[:, 3] = places, np.linspace(-4, 4, 39)
    world = np.zeros((39, 3))
    world[:, 1] = 1  # below the hips
    maps = np.full((64, 64, 39), -9.0) if maps is None else maps
    nobody = [np.zeros((2254, 12)), np.full((2254, 1), -9.0)]
    return blazepose.BlazePose(
        lambda _: nobody, lambda _: [rows.ravel(), np.array([score]), np.full((256, 256, 1), -9.0), maps, world.ravel()]
    )


def test_a_region_is_turned_as_the_body_is():
    upright = blazepose.region_of(np.array((100.0, 200)), np.array((100.0, 120)))
    assert upright == (100, 200, 100, 0)
    lying = blazepose.region_of(np.array((100.0, 200)), np.array((180.0, 200)))  # the head to the right
    assert lying.angle == pytest.approx(np.pi / 2)
    # Above the hip in the input, upright, is the side of the head in the picture.
    affine = blazepose.from_region(lying)
    np.testing.assert_allclose(affine @ (128, 128, 1), (100, 200), atol=1e-9)
    np.testing.assert_allclose(affine @ (128, 0, 1), (200, 200), atol=1e-9)
    np.testing.assert_allclose(affine @ (0, 128, 1), (100, 100), atol=1e-9)


def test_landmarks_go_back_into_the_picture():
    image = Image.new("RGB", (640, 360))
    region = blazepose.Region(320, 180, 64, 0.0)
    person = blazepose.landmarks(network_of(), image, region)
    np.testing.assert_allclose(person.points[:, :2], (PLACES[:33] - 128) / 2 + (320, 180))
    assert person.points[0, 2] == pytest.approx(1 / (1 + np.exp(4))) and person.score == 1
    turned = blazepose.landmarks(network_of(), image, region._replace(angle=np.pi / 2))
    np.testing.assert_allclose(turned.world[0], (-1, 0, 0), atol=1e-9)  # below, of a body with its head to the right
    wanted = blazepose.region_of(*((PLACES[33:35] - 128) / 2 + (320, 180)))
    np.testing.assert_allclose(person.following, wanted)


def test_a_region_is_cut_out_of_the_picture():
    image = Image.new("RGB", (200, 100))
    image.paste((255, 0, 0), (100, 0, 200, 100))
    seen = []
    network = network_of()._replace(landmarks=lambda crop: seen.append(crop) or network_of().landmarks(crop))
    blazepose.landmarks(network, image, blazepose.Region(100, 50, 50, 0.0))
    assert seen[0].shape == (256, 256, 3) and seen[0].dtype == np.float32
    assert seen[0][128, 40].tolist() == [0, 0, 0] and seen[0][128, 220].tolist() == [1, 0, 0]


def test_others_are_painted_over():
    image, seen = Image.new("RGB", (200, 100)), []
    network = network_of()._replace(landmarks=lambda crop: seen.append(crop) or network_of().landmarks(crop))
    other = blazepose.landmarks(network, image, blazepose.Region(150, 50, 50, 0.0))
    assert not other.mask.any() and other.mask.shape == (256, 256)
    other.mask[:, :128] = True  # x from 100 to 150
    blazepose.landmarks(network, image, blazepose.Region(100, 50, 50, np.pi / 2), [other])
    grey = seen[1][..., 0] > 0.4
    assert grey[:120].all() and not grey[136:].any()  # the picture's right is the crop's top, turned so


def test_heat_maps_refine_landmarks_that_they_are_sure_of():
    maps = np.full((64, 64, 39), -9.0)
    places = np.full((39, 2), 0.5)
    maps[33, 34, 0] = 9  # a peak beside the landmark
    maps[33, 34, 1] = -1  # none that is sure
    maps[10, 10, 2] = 9  # too far away
    places[3] = 1.2  # outside
    moved = blazepose.refined(places, maps)
    np.testing.assert_allclose(moved[0], (34 / 64, 33 / 64), atol=2e-3)
    assert (moved[1:] == places[1:]).all()


@pytest.mark.parametrize("row, cell", [(0, (0, 0)), (3, (1, 0)), (28 * 2, (0, 1))])
def test_what_the_detector_sees(row, cell):
    """Rows of its output stand for cells of the picture, row by row, two for each; letterboxed, from -1 to 1."""
    raw, logits, seen = np.zeros((2254, 12)), np.full((2254, 1), -9.0), []
    raw[row] = (0, 0, 20, 10, 0, 30, 0, 10, 0, 0, 0, 0)  # box, hip below its middle, the second point above the hip
    logits[row] = 3
    network = blazepose.BlazePose(lambda square: seen.append(square) or [raw, logits], None)
    (sight,) = blazepose.look(network, Image.new("RGB", (448, 224), (255, 255, 255)))
    assert seen[0].shape == (224, 224, 3) and seen[0][0, 0, 0] == -1 and seen[0][112, 112, 0] == 1
    middle = (np.array(cell) + 0.5) * 8 * 2 - (0, 112)  # 8 pixels a cell, the picture twice as large, its top padded
    np.testing.assert_allclose(sight.box, (*(middle - (20, 10)), *(middle + (20, 10))), atol=1e-5)
    np.testing.assert_allclose(sight.region, (middle[0], middle[1] + 60, 1.25 * 40, 0), atol=1e-4)
    (part,) = blazepose.look(network, Image.new("RGB", (448, 224)), (100, 50, 112, 112))
    np.testing.assert_allclose(part.box[:2], (np.array(cell) + 0.5) * 4 - (5, 2.5) + (100, 50), atol=1e-5)
    assert blazepose.look(network_of(), Image.new("RGB", (448, 224))) == []


def test_sightings_of_one_person_are_averaged():
    one = np.array(((0, 0), (10, 10), (5, 8), (5, 0), (0, 0), (0, 0)), float)
    found = blazepose.merged(np.array((0.6, 0.9, 0.8)), np.stack((one, one + 1, one + 50)))
    assert [round(sight.score, 2) for sight in found] == [0.9, 0.8]
    np.testing.assert_allclose(found[0].box[0], 0.6, atol=1e-9)  # (0.6 * 0 + 0.9 * 1) / 1.5


def test_the_layout_names_coco_s_joints():
    matrix = layouts.coco_matrix("blazepose33")
    assert layouts.layout_of(None, np.zeros((1, 33, 2)), "x") == "blazepose33"
    names = ("nose", "left ear", "right shoulder", "left hip", "right foot")
    assert [int(matrix[COCO_17.index(name)].argmax()) for name in names] == [0, 7, 12, 23, 28]


# ------------------------------------------------------------ files


def fake_files(monkeypatch, content=b"network") -> None:
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(detector_files, "BLAZEPOSE", (("a/one.tflite", digest), ("b/two.tflite", digest)))


def test_files_are_taken_out_of_the_wheel_once(tmp_path, monkeypatch):
    fake_files(monkeypatch)
    calls = []

    def pip(command, **_):
        calls.append(command)
        with zipfile.ZipFile(f"{command[command.index('--dest') + 1]}/mediapipe.whl", "w") as wheel:
            for name in ("a/one.tflite", "b/two.tflite"):
                wheel.writestr(name, b"network")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    for _ in range(2):
        files = detector_files.blazepose(tmp_path / "detectors")
        assert [file.read_bytes() for file in files] == [b"network"] * 2
    assert len(calls) == 1 and "mediapipe==0.10.21" in calls[0]


def test_missing_or_damaged_files_are_named(tmp_path, monkeypatch):
    fake_files(monkeypatch)
    failed = subprocess.CompletedProcess((), 1, "", "ERROR: no network")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(InputError, match=r"no network\): put a/one.tflite and b/two.tflite of that wheel into"):
        detector_files.blazepose(tmp_path)
    (tmp_path / "one.tflite").write_bytes(b"network")
    (tmp_path / "two.tflite").write_bytes(b"netw")
    with pytest.raises(InputError, match="two.tflite is damaged.*delete it"):
        detector_files.blazepose(tmp_path)
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        wheel.writestr("a/one.tflite", b"other")
    for match, name in (("no wheel", "other.whl"), ("no wheel", "one.tflite")):
        with pytest.raises(InputError, match=match):
            detector_files.unpack(tmp_path / name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_real_files_see_nobody_on_blank_paper():
    pytest.importorskip("ai_edge_litert")
    folder = ROOT / detector_files.FOLDER
    if not all((folder / name.split("/")[-1]).is_file() for name, _ in detector_files.BLAZEPOSE):
        pytest.skip(f"no files of BlazePose in {folder}")
    network, image = blazepose.load(folder, 1), Image.new("RGB", (300, 200), (128, 128, 128))
    assert blazepose.look(network, image) == []
    person = blazepose.landmarks(network, image, blazepose.Region(150, 100, 90, 0.0))
    assert person.points.shape == (33, 3) and person.score < blazepose.SURE

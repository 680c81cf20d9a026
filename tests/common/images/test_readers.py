"""MPII, Human3.6M and COCO in their true formats, with tiny images; damaged and hostile files."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from common.errors import InputError
from common.images.decode import H36M_TO_MPII
from common.images.people import CropOptions, Crops
from common.images.readers import load_coco_images, load_h36m_images, load_mpii_images

CACHE = "HM36_eccv_challenge_{0}_cache/HM36_eccv_challenge_{0}_w288xh384_keypoint_jnt_bbox_db.pkl"


def save_image(path, size=(40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 100, 50)).save(path)


def write_json(path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def mpii_entry(**changes) -> dict:
    joints = [[10.0 + j, 5.0 + j] for j in range(16)]
    joints[3] = [0.0, 0.0]
    return {"image": "a.jpg", "joints": joints, "joints_vis": [1] * 16, "center": [20.0, 15.0], "scale": 0.1} | changes


def make_mpii(root, entries, name="train.json") -> None:
    write_json(root / "mpii" / "annot" / name, entries)
    save_image(root / "mpii" / "images" / "a.jpg")


def h36m_entry(i: int, **changes) -> dict:
    rng = np.random.default_rng(i)
    return {
        "image": f"{i}.jpg",
        "joints_3d": rng.uniform(0, 30, (18, 3)),
        "joints_3d_relative": rng.normal(0, 300, (18, 3)),
        "joints_3d_vis": np.ones((18, 3)),
        "center_x": np.float64(20.0),
        "center_y": 15.0,
        "width": 20,
        "height": np.float32(28),
    } | changes


def make_h36m(root, entries, split="Train") -> None:
    cache = root / "h36m" / "msra_cache" / CACHE.format(split)
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_bytes(pickle.dumps(entries, protocol=2))
    for i in range(len(entries)):
        save_image(root / "h36m" / "ECCV18_Challenge" / split / "IMG" / f"{i + 1:05d}.jpg")


def coco_entry(**changes) -> dict:
    keypoints = [value for j in range(17) for value in (5 + j, 6 + j, 2)]
    keypoints[3:6] = 0, 0, 0
    entry = {"image_id": 9, "category_id": 1, "keypoints": keypoints, "num_keypoints": 16, "bbox": [4, 5, 20, 24]}
    return entry | {"iscrowd": 0} | changes


def make_coco(root, annotations) -> None:
    images = [{"id": 9, "file_name": "000000000009.jpg", "width": 40, "height": 30}]
    content = {"images": images, "annotations": annotations, "categories": []}
    write_json(root / "COCO" / "annotations" / "person_keypoints_train2017.json", content)
    save_image(root / "COCO" / "train2017" / "000000000009.jpg")


def test_mpii(tmp_path):
    make_mpii(tmp_path, [mpii_entry(), mpii_entry()])
    people = load_mpii_images(tmp_path)
    assert len(people) == 2 and not people.has_3d and people.rotate
    np.testing.assert_allclose(people.center[0], (19, 15.5))
    assert people.size[0] == 25 and people.annotated[0].tolist() == [j != 3 for j in range(16)]
    sample = Crops([people], CropOptions(input_size=(32, 32), map_size=(8, 8)), train=False)[1]
    assert abs(sample["image"][16, 16].int() - sample["image"].new_tensor((200, 100, 50)).int()).max() < 4


@pytest.mark.parametrize("name", ["val.json", "valid.json"])
def test_mpii_validation_has_two_names(tmp_path, name):
    make_mpii(tmp_path, [mpii_entry()], name)
    assert len(load_mpii_images(tmp_path, "val")) == 1


def test_h36m(tmp_path):
    make_h36m(tmp_path, [h36m_entry(i) for i in range(12)])
    people = load_h36m_images(tmp_path)
    assert len(people) == 12 and people.has_3d and not people.rotate
    entry = h36m_entry(11)
    np.testing.assert_allclose(people.joints[11], entry["joints_3d"][list(H36M_TO_MPII), :2])
    np.testing.assert_allclose(people.depth[11], entry["joints_3d"][list(H36M_TO_MPII), 2])
    np.testing.assert_allclose(people.gt_3d[11], entry["joints_3d_relative"][:17], rtol=1e-6)
    assert people.size[0] == 28 and people.center[0].tolist() == [20, 15]
    make_h36m(tmp_path, [h36m_entry(i) for i in range(12)], "Val")
    validation = load_h36m_images(tmp_path, "val")
    assert len(validation) == 2 and len(load_h36m_images(tmp_path, "val", every=1)) == 12
    assert validation.open_image(1).filename.endswith("00011.jpg")


def test_coco(tmp_path):
    crowd, nobody = coco_entry(iscrowd=1), coco_entry(num_keypoints=0)
    make_coco(tmp_path, [crowd, coco_entry(), nobody])
    people = load_coco_images(tmp_path)
    assert len(people) == 1 and people.layout == "coco17"
    assert people.center[0].tolist() == [14, 17] and people.size[0] == 30
    assert people.annotated[0].tolist() == [j != 1 for j in range(17)]
    options = CropOptions(input_size=(64, 48), map_size=(16, 12), fit_short_side=True)
    sample = Crops([people], options, train=False)[0]
    assert sample["image"].shape == (64, 48, 3) and sample["annotated"].sum() == 16


@pytest.mark.parametrize("load", [load_mpii_images, load_h36m_images, load_coco_images])
def test_missing_files_say_where_they_were_looked_for(tmp_path, load):
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value) and "--dataset synthetic" in str(caught.value)
    assert "get " in str(caught.value) or "ask for" in str(caught.value)


def test_missing_images_are_counted(tmp_path):
    make_mpii(tmp_path, [mpii_entry(), mpii_entry(image="b.jpg"), mpii_entry(image="c.jpg")])
    with pytest.raises(InputError, match=r"lacks 2 of 3 annotated images, the first b\.jpg"):
        load_mpii_images(tmp_path)
    (tmp_path / "mpii" / "images" / "a.jpg").unlink()
    (tmp_path / "mpii" / "images").rmdir()
    with pytest.raises(InputError, match="images not found"):
        load_mpii_images(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"joints": [[1, 2]] * 15}, r"entry 1: `joints` has shape \(15, 2\)"),
        ({"joints": [[float("nan"), 2]] * 16}, "entry 1: `joints` has values that are not finite"),
        ({"joints": "x"}, "entry 1: `joints`"),
        ({"center": [1, float("inf")]}, "entry 1: `center`"),
        ({"scale": -1.0}, "entry 1: `scale` is -1.0"),
        ({"scale": None}, "entry 1: `scale`"),
    ],
)
def test_bad_mpii_entries(tmp_path, change, words):
    make_mpii(tmp_path, [mpii_entry(), mpii_entry(**change)])
    with pytest.raises(InputError, match=words):
        load_mpii_images(tmp_path)


@pytest.mark.parametrize("content", ["[", "{}", "[]", "[1]"])
def test_other_json(tmp_path, content):
    make_mpii(tmp_path, [])
    (tmp_path / "mpii" / "annot" / "train.json").write_text(content)
    with pytest.raises(InputError, match=r"train\.json"):
        load_mpii_images(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"joints_3d": np.zeros((16, 3))}, "entry 1: `joints_3d` has 16 joints"),
        ({"joints_3d_relative": np.full((18, 3), np.nan)}, "entry 1: `joints_3d_relative` has values that are not"),
        ({"width": "wide"}, "entry 1: `width`"),
    ],
)
def test_bad_h36m_entries(tmp_path, change, words):
    make_h36m(tmp_path, [h36m_entry(0), h36m_entry(1) | change])
    with pytest.raises(InputError, match=words):
        load_h36m_images(tmp_path)


class Trap:
    """A pickle that would write a file if it were executed."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_with_code_is_refused(tmp_path):
    make_h36m(tmp_path, [h36m_entry(0) | {"image": Trap(tmp_path / "ran")}])
    with pytest.raises(InputError, match="open, which is not data: refused"):
        load_h36m_images(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0, 20, -30])
def test_a_truncated_pickle(tmp_path, keep):
    make_h36m(tmp_path, [h36m_entry(i) for i in range(3)])
    cache = tmp_path / "h36m" / "msra_cache" / CACHE.format("Train")
    cache.write_bytes(cache.read_bytes()[:keep])
    with pytest.raises(InputError, match="truncated, damaged or no pickle"):
        load_h36m_images(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"keypoints": [1, 2, 2]}, "`keypoints` has shape"), ({"bbox": None}, "`bbox`"), ({"image_id": 8}, "image 8")],
)
def test_bad_coco_annotations(tmp_path, change, words):
    make_coco(tmp_path, [coco_entry(**change)])
    with pytest.raises(InputError, match=words):
        load_coco_images(tmp_path)

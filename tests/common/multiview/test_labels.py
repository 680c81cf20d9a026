"""Multi-view folders: what is read, what is refused, and which views go together."""

import shutil

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import InputError
from common.multiview.batches import epoch_batches, load_batches, view_groups
from common.multiview.labels import (
    DEVIATION,
    MEAN,
    NORMALISED_POSE,
    POSE,
    Labels,
    MultiviewImages,
    denormalise,
    image_file,
    normalise,
    read_labels,
)  # fmt: skip

SIDE = 8
SUBJECTS, SEQUENCES, FRAMES, CAMERAS = (1, 5), 2, 5, 3


def label_arrays() -> dict[str, np.ndarray]:
    """Two subjects, two sequences each (numbered alike), five frames, three cameras, rows in no order."""
    rows = [
        (subject, sequence, 10 * frame, camera)
        for subject in SUBJECTS for sequence in range(SEQUENCES) for frame in range(FRAMES) for camera in range(CAMERAS)
    ]  # fmt: skip
    draws = np.random.default_rng(0)
    table = np.array(rows)[draws.permutation(len(rows))]
    turned = np.linalg.qr(draws.normal(size=(len(table), 3, 3)))[0]
    turned *= np.linalg.det(turned)[:, None, None]
    arrays = {key: table[:, i : i + 1].astype(np.float32) for i, key in enumerate(("subj", "seq", "frame", "cam"))}
    arrays["extrinsic_rot"] = turned.astype(np.float32)
    for key in NORMALISED_POSE:
        arrays[key] = np.abs(draws.normal(size=(len(table), 51))).astype(np.float32)
    return arrays


def write(folder, arrays) -> None:
    with h5py.File(folder / "labels.h5", "w") as file:
        for key, array in arrays.items():
            file[key] = array


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images whose first pixel names the row, the others the kind; of every subject its own sequence numbers."""
    path = tmp_path_factory.mktemp("multiview")
    arrays = label_arrays()
    arrays["seq"] = arrays["seq"] + 2 * (arrays["subj"] == 5)
    write(path, arrays)
    index = np.hstack([arrays[key] for key in ("seq", "cam", "frame")]).astype(int)
    for row, place in enumerate(index.tolist()):
        for kind, key in enumerate(("img_crop", "bg_crop")):
            file = image_file(path, *place, key)
            file.parent.mkdir(parents=True, exist_ok=True)
            picture = np.full((SIDE, SIDE, 3), kind, np.uint8)
            picture[0, 0] = row
            Image.fromarray(picture).save(file)
    return path


def labels_of(arrays) -> Labels:
    index = [torch.from_numpy(arrays[key].reshape(-1)).long() for key in ("subj", "seq", "frame", "cam")]
    return Labels(*index, torch.from_numpy(arrays["extrinsic_rot"]))


def refusal(function, *arguments, **options) -> str:
    with pytest.raises(InputError) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# ------------------------------------------------------------ labels


def test_labels(tmp_path):
    arrays = label_arrays()
    write(tmp_path, arrays | {"bounding_box_cam": np.zeros(3)})
    labels = read_labels(tmp_path, NORMALISED_POSE)
    assert len(labels) == 60 and labels.frame.dtype == torch.int64
    for name, key in (("subject", "subj"), ("sequence", "seq"), ("frame", "frame"), ("camera", "cam")):
        assert getattr(labels, name).tolist() == arrays[key].reshape(-1).tolist()
    for name, key in zip(("pose", "mean", "std"), NORMALISED_POSE, strict=True):
        assert torch.equal(getattr(labels, name), torch.from_numpy(arrays[key]))
    some = labels[torch.tensor([3, 5])]
    assert torch.equal(some.world_to_camera, labels.world_to_camera[[3, 5]]) and torch.equal(
        some.std, labels.std[[3, 5]]
    )
    assert read_labels(tmp_path).pose is None and read_labels(tmp_path).to("cpu")[torch.arange(2)].mean is None


def test_other_shapes_of_the_same_labels(tmp_path):
    arrays = label_arrays()
    flat = {key: arrays[key].reshape(-1).astype(np.int64) for key in ("subj", "seq", "frame", "cam")}
    flat["frame"] += 2**24 + 1  # more than float32 can count
    write(
        tmp_path,
        arrays
        | flat
        | {"3D": arrays["3D"].reshape(-1, 17, 3), "extrinsic_rot": arrays["extrinsic_rot"].reshape(-1, 9)},
    )
    labels = read_labels(tmp_path, POSE)
    assert torch.equal(labels.pose, torch.from_numpy(arrays["3D"])) and labels.frame.tolist() == flat["frame"].tolist()
    assert torch.equal(labels.world_to_camera, torch.from_numpy(arrays["extrinsic_rot"]))


def test_labels_that_are_wrong(tmp_path):
    arrays = label_arrays()
    mirror, skewed, nan, half, std = (
        arrays[key].copy() for key in ("extrinsic_rot", "extrinsic_rot", "3D", "cam", "pose_std")
    )
    mirror[4, 0] *= -1
    skewed[7] *= 1.1
    nan[9, 2] = np.nan
    half[3] = 0.5
    std[0, 0] = -1
    place = "subj {}, seq {}, frame {}, cam {}".format(
        *(int(arrays[key][7, 0]) for key in ("subj", "seq", "frame", "cam"))
    )
    for change, words in (
        ({"3D": None}, "has no array 3D; it has: cam, extrinsic_rot"),
        ({"3D": arrays["3D"][:40]}, "3D has 40 rows and frame has 60"),
        ({"3D": arrays["3D"][:, :48]}, "3D has shape (60, 48) of float32; expected 51 numbers"),
        ({"3D": nan}, "NaN or infinity in 3D, row 9 (1 bad rows)"),
        ({"cam": half}, "cam, row 3 is 0.5; expected a whole number"),
        ({"cam": -arrays["cam"] - 1}, "expected a whole number"),
        ({"seq": np.array([b"a"] * 60)}, "seq has shape (60,)"),
        ({"extrinsic_rot": skewed}, f"extrinsic_rot, row 7 ({place}) is no rotation: it is off by 0.21"),
        ({"extrinsic_rot": mirror}, "is no rotation: it mirrors (1 bad rows)"),
        ({"pose_std": std}, "pose_std has numbers below 0"),
    ):
        changed = {key: value for key, value in (arrays | change).items() if value is not None}
        write(tmp_path, changed)
        assert words in refusal(read_labels, tmp_path, NORMALISED_POSE)
    write(tmp_path, {key: value[:0] for key, value in arrays.items()})
    assert "0 rows" in refusal(read_labels, tmp_path)


def test_files_that_are_no_labels(tmp_path):
    assert "holds no labels.h5" in refusal(read_labels, tmp_path)
    assert "there is no folder" in refusal(read_labels, tmp_path / "no")
    write(tmp_path, label_arrays())
    path = tmp_path / "labels.h5"
    whole = path.read_bytes()
    for part in (whole[: len(whole) // 2], b"", b"labels" * 100):
        path.write_bytes(part)
        assert "labels.h5 is truncated, damaged or no HDF5 file" in refusal(read_labels, tmp_path)


def test_links_out_of_the_file_are_not_followed(tmp_path):
    arrays = label_arrays()
    (tmp_path / "other").mkdir()
    write(tmp_path / "other", arrays)
    write(tmp_path, {key: value for key, value in arrays.items() if key not in ("3D", "cam")})
    with h5py.File(tmp_path / "labels.h5", "a") as file:
        file["3D"] = h5py.ExternalLink(str(tmp_path / "other" / "labels.h5"), "3D")
        layout = h5py.VirtualLayout((60, 1), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other" / "labels.h5"), "cam", (60, 1))
        file.create_virtual_dataset("cam", layout)
    assert "has no array cam, 3D" in refusal(read_labels, tmp_path, POSE)


# ------------------------------------------------------------ images


def test_images_by_rows(folder):
    images = MultiviewImages(folder, read_labels(folder))
    assert images.resolution == SIDE
    rows = torch.tensor([7, 3, 7, 59])
    for _ in range(2):
        pictures, backgrounds = images[rows]
        assert pictures.shape == (4, SIDE, SIDE, 3) and pictures.dtype == torch.uint8
        assert pictures[:, 0, 0, 0].tolist() == backgrounds[:, 0, 0, 1].tolist() == rows.tolist()
        assert pictures[:, 1, 1].unique().tolist() == [0] and backgrounds[:, 1, 1].unique().tolist() == [1]
        images.preload()
    part = MultiviewImages(folder, read_labels(folder), ("bg_crop",), rows=rows)
    part.preload()
    assert len(part.memory["bg_crop"]) == 3
    assert torch.equal(part[rows][0], backgrounds)


def test_images_that_are_missing_or_damaged(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    labels = read_labels(copy)
    row = 30
    path = image_file(copy, int(labels.sequence[row]), int(labels.camera[row]), int(labels.frame[row]), "img_crop")
    images = MultiviewImages(copy, labels)
    whole = path.read_bytes()
    for content, words in ((whole[:-30], "damaged"), (b"text", "damaged or no PNG")):
        path.write_bytes(content)
        assert str(path) in refusal(images.__getitem__, [row]) and words in refusal(images.__getitem__, [row])
    Image.new("RGB", (9, 9)).save(path)
    assert "9 x 9 pixels; expected 8 x 8" in refusal(images.__getitem__, [row])
    path.unlink()
    found = refusal(MultiviewImages, copy, labels)
    assert f"{path} is missing (1 of 10 images of that folder are)" in found
    MultiviewImages(copy, labels, rows=np.arange(30))  # only what will be read must be there
    batches = np.array([[0, 1], [2, 3], [29, row], [4, 5]])
    for workers in (0, 1):  # removed during the run: one line, from a worker too
        assert f"{path} is missing" in refusal(lambda n: list(load_batches(images, batches, workers=n)), workers)
    shutil.rmtree(path.parent)
    assert "is missing (10 of 10" in refusal(MultiviewImages, copy, labels)
    assert "32 x 32" in refusal(MultiviewImages, folder, labels, resolution=32)


def test_other_kinds_of_png_become_rgb(folder, tmp_path):
    labels = read_labels(folder)[torch.tensor([0])]
    path = image_file(tmp_path, int(labels.sequence), int(labels.camera), int(labels.frame), "img_crop")
    path.parent.mkdir(parents=True)
    Image.new("RGBA", (SIDE, SIDE), (9, 8, 7, 100)).save(path)
    (picture,) = MultiviewImages(tmp_path, labels, ("img_crop",))[[0]]
    assert picture[0, 0, 0].tolist() == [9, 8, 7]


def test_normalise():
    images = torch.arange(256).repeat(3, 1).T.reshape(1, 16, 16, 3).to(torch.uint8).contiguous()
    found = normalise(images)
    expected = (images.numpy() / 255 - np.array(MEAN)) / np.array(DEVIATION)
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), expected, atol=2e-6)
    assert found.shape == (1, 3, 16, 16) and found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(denormalise(found), images)
    assert denormalise(torch.full((3, 2, 2), 9.0)).unique().tolist() == [255]


# ------------------------------------------------------------ groups and batches


def place_of(arrays, rows) -> np.ndarray:
    """(..., 4): subject, sequence, frame, camera."""
    return np.stack([arrays[key].reshape(-1)[rows] for key in ("subj", "seq", "frame", "cam")], -1).astype(int)


def test_groups():
    arrays = label_arrays()
    groups = view_groups(labels_of(arrays), 2)
    assert len(groups) == 20 and groups.rows.shape == (20, 3) and groups.count.tolist() == [3] * 20
    place = place_of(arrays, groups.rows)
    assert (place[:, :, :3] == place[:, :1, :3]).all()
    keys = [tuple(key) for key in place[:, 0, :3].tolist()]
    assert keys == sorted(keys)
    assert all(row.tolist() == sorted(row) for row in groups.rows)  # cameras in the order of the file
    assert groups.first.tolist() == [i // 5 * 5 for i in range(20)] and (groups.last == groups.first + 5).all()


def test_the_last_of_a_view_counts_at_the_place_of_the_first():
    place = {"subj": [1, 1, 1, 1], "seq": [0, 0, 0, 0], "frame": [3, 3, 3, 4], "cam": [2, 0, 2, 0]}
    arrays = {key: np.array(value) for key, value in place.items()}
    labels = labels_of(arrays | {"extrinsic_rot": np.zeros((4, 3, 3))})
    assert view_groups(labels, 2).rows.tolist() == [[2, 1]]
    assert view_groups(labels, 0).rows.tolist() == [[2, 1], [3, -1]]
    assert view_groups(labels, 1, active_cameras=[2]).rows.tolist() == [[2]]
    assert epoch_batches(view_groups(labels, 0), 3, randomize=False).tolist() == [[2, 1, 3]]
    assert sorted(epoch_batches(view_groups(labels, 0), 3, seed=3)[0].tolist()) == [1, 2, 3]


def test_groups_that_there_are_not():
    labels = labels_of(label_arrays())
    assert len(view_groups(labels, 3, actors=[5])) == 10
    assert "seen by 4 cameras, the most is 3" in refusal(view_groups, labels, 4)
    assert "the most is 1" in refusal(view_groups, labels, 2, active_cameras=[1])
    assert "the most is 0" in refusal(view_groups, labels, 0, active_cameras=[9])
    assert "no samples of subject 6; the labels have subjects 1, 5" in refusal(view_groups, labels, 2, actors=[1, 6])


def test_an_epoch_takes_every_group_once():
    arrays = label_arrays()
    groups = view_groups(labels_of(arrays), 2)
    batches = epoch_batches(groups, 4)
    assert batches.shape == (10, 4)
    place = place_of(arrays, batches.reshape(-1, 2))
    assert (place[:, 0, :3] == place[:, 1, :3]).all() and (place[:, 0, 3] != place[:, 1, 3]).all()
    assert len(np.unique(place[:, 0, :3], axis=0)) == 20
    assert epoch_batches(groups, 6).shape == (6, 6)  # 40 rows, 4 left out
    plain = epoch_batches(groups, 4, randomize=False)
    assert plain.reshape(-1, 2).tolist() == groups.rows[:, :2].tolist()
    thirds = epoch_batches(groups, 2, every_nth_frame=3, randomize=False)
    assert thirds.tolist() == groups.rows[::3, :2].tolist()


def test_subject_batches():
    """Two views of a frame, then two of another frame of the same subject and sequence, though numbers are shared."""
    arrays = label_arrays()
    groups = view_groups(labels_of(arrays), 2)
    frames, cameras = set(), set()
    for epoch in range(20):
        place = place_of(arrays, epoch_batches(groups, 8, epoch=epoch, subject_batches=True).reshape(-1, 2, 2))
        assert place.shape == (20, 2, 2, 4)
        assert (place[:, :, 0, :3] == place[:, :, 1, :3]).all() and (place[:, :, 0, 3] != place[:, :, 1, 3]).all()
        assert (place[:, 0, :, :2] == place[:, 1, :, :2]).all()
        frames |= set(map(tuple, place[:, :, 0, 2].tolist()))
        cameras |= set(map(tuple, place[:, :, :, 3].reshape(-1, 2).tolist()))
    assert len(frames) == 25 and len(cameras) == 6  # any frame with any, any two cameras


def test_batches_depend_on_seed_and_epoch_alone():
    groups = view_groups(labels_of(label_arrays()), 2)
    options = {"subject_batches": True, "every_nth_frame": 2}
    first = epoch_batches(groups, 4, seed=1, epoch=2, **options)
    np.random.seed(5)
    assert np.array_equal(first, epoch_batches(groups, 4, seed=1, epoch=2, **options))
    assert not np.array_equal(first, epoch_batches(groups, 4, seed=1, epoch=3, **options))
    assert not np.array_equal(first, epoch_batches(groups, 4, seed=2, epoch=2, **options))


def test_processes_share_the_blocks_of_each_batch():
    groups = view_groups(labels_of(label_arrays()), 2)
    whole = epoch_batches(groups, 16, subject_batches=True)
    shares = [epoch_batches(groups, 16, subject_batches=True, rank=rank, world_size=2) for rank in range(2)]
    blocks = whole.reshape(len(whole), 4, 4)
    for rank, share in enumerate(shares):
        assert np.array_equal(share.reshape(-1, 2, 4), blocks[:, rank::2])


def test_batches_that_cannot_be():
    groups = view_groups(labels_of(label_arrays()), 2)
    assert "multiple of 4, 4 views" in refusal(epoch_batches, groups, 6, subject_batches=True)
    assert "for each of 3 processes" in refusal(epoch_batches, groups, 4, world_size=3)
    assert "no whole batch of 8" in refusal(epoch_batches, groups, 8, every_nth_frame=10)


def test_loading_is_the_same_with_workers_resumed_and_preloaded(folder):
    labels = read_labels(folder)
    images = MultiviewImages(folder, labels)
    batches = epoch_batches(view_groups(labels, 2), 8, subject_batches=True)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    plain = list(load_batches(images, batches))
    workers = list(load_batches(images, batches, workers=2))
    assert torch.equal(torch.get_rng_state(), before)
    resumed = list(load_batches(images, batches, start=3))
    images.preload()
    preloaded = list(load_batches(images, batches))
    assert len(plain) == 10 and len(resumed) == 7
    for found, expected in ((workers, plain), (preloaded, plain), (resumed, plain[3:])):
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one.rows, other.rows) and torch.equal(one.images, other.images)
            assert torch.equal(one.backgrounds, other.backgrounds)
    assert plain[0].images[:, 0, 0, 0].tolist() == batches[0].tolist() == plain[0].rows.tolist()
    (batch,) = load_batches(MultiviewImages(folder, labels, ("img_crop",)), batches[:1])
    assert batch.backgrounds is None

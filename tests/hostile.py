"""Seeded random damage to small good files of every kind, and what the readers make of it."""

import io
import json
import os
import pickle
import random
import resource
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch
from PIL import Image

import models
from common.bones import length_templates
from common.errors import InputError
from common.files.mat import load_mat, save_mat
from common.files.npz import load_npz, load_pickle, save_npz
from common.files.reading import load_array, load_json, load_yaml
from common.images.crop import open_rgb
from common.mocap.joints import read_map
from common.mocap.read import read_motion
from common.multiview.labels import read_labels
from common.run import checkpoint
from common.run.log import read_metrics
from common.video.read import read_keypoints
from methods import lifters
from methods.adversarial import checkpoint as gan_checkpoint
from methods.encoder_decoder import checkpoint as encoder_decoder_checkpoint
from methods.hourglass import checkpoint as hourglass_checkpoint

BVH = """HIERARCHY
ROOT Hips
{
OFFSET 0 0 0
CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
JOINT Spine
{
OFFSET 0 10 0
CHANNELS 3 Zrotation Xrotation Yrotation
End Site
{
OFFSET 0 5 0
}
}
}
MOTION
Frames: 2
Frame Time: 0.02
0 0 0 0 0 0 0 0 0
0 1 0 5 0 0 0 9 0
"""
ASF = """:version 1.10
:units
  length 0.45
  angle deg
:root
  order TX TY TZ RX RY RZ
  axis XYZ
  position 0 0 0
  orientation 0 0 0
:bonedata
  begin
    name spine
    direction 0 1 0
    length 2
    axis 0 0 0 XYZ
    dof rx ry rz
  end
:hierarchy
  begin
    root spine
  end
"""
AMC = ":FULLY-SPECIFIED\n:DEGREES\n1\nroot 0 0 0 0 0 0\nspine 1 2 3\n2\nroot 0 0 0 0 0 0\nspine 4 5 6\n"


class Reader(NamedTuple):
    """One reader, the name that its file must have, and a good file."""

    read: Callable[[Path], object]
    name: str
    good: bytes


def readers(folder: Path) -> dict[str, Reader]:
    """Every reader of files from elsewhere; the good files are made in `folder`."""
    tree = {"S1": {"Walk": [np.ones((3, 17, 2), np.float32)] * 2}}
    points = np.random.default_rng(0).random((4, 17, 2)) * 100 + 1
    save_npz(folder / "a.npz", compressed=True, positions_2d=tree, table=np.arange(20.0))
    save_npz(folder / "points.npz", keypoints=points)
    save_npz(folder / "motion.npz", joints=np.ones((2, 22, 3)), fps=np.array(50.0))
    save_mat(folder / "a.mat", data=np.ones((3, 4)), text=np.arange(3))
    np.save(folder / "a.npy", np.ones((2, 15)))
    (folder / "motion.asf").write_text(ASF)
    image = io.BytesIO()
    Image.new("RGB", (8, 8)).save(image, "PNG")
    lifter = models.create("mlp", width=8, stages=1)
    state = {"epoch": 1, "model_pos": lifter.state_dict(), "options": "{}", "lr": 0.1}
    gan = {"method": "kudo", "factor": 1.0, "network": "gan_lifter", "sizes": {"joints": 17, "width": 8, "stages": 1}}
    gan["state_dict"] = {f"gen.{n}": v for n, v in models.create("gan_lifter", **gan["sizes"]).state_dict().items()}
    openpose = {"people": [{"pose_keypoints_2d": [1.0, 2.0, 0.9] * 25}]}
    alphapose = {"1.jpg": {"bodies": [{"joints": [1.0, 2.0, 0.9] * 18}]}}
    with h5py.File(folder / "labels.h5", "w") as file:
        for key in ("subj", "seq", "frame", "cam"):
            file[key] = np.arange(4, dtype=np.int32)
        file["extrinsic_rot"] = np.stack([np.eye(3, dtype=np.float32)] * 4)

    def lift(path: Path) -> object:
        return lifters.network_of(lifters.load(path), path)

    def saved(value: object, **options) -> bytes:
        file = io.BytesIO()
        torch.save(value, file, **options)
        return file.getvalue()

    stage1, decoder = {"hm.weight": torch.ones(2)}, {"from_latent.0.weight": torch.ones(8, 2)}

    def of(name: str) -> bytes:
        return (folder / name).read_bytes()

    return {
        "npz": Reader(load_npz, "a.npz", of("a.npz")),
        "mat": Reader(load_mat, "a.mat", of("a.mat")),
        "npy": Reader(load_array, "a.npy", of("a.npy")),
        "bones": Reader(length_templates, "a.npy", of("a.npy")),
        "pickle": Reader(load_pickle, "a.pkl", pickle.dumps([tree, "text", 1.5], protocol=2)),
        "pickle 0": Reader(load_pickle, "a.pkl", pickle.dumps([{"a": [1, 2.5, "text"]}, (1, 2)], protocol=0)),
        "lifter": Reader(lift, "a.bin", saved(state)),
        "old lifter": Reader(lift, "a.bin", saved(state, _use_new_zipfile_serialization=False)),
        "gan": Reader(lift, "a.ckpt", saved(gan)),
        "gan file": Reader(gan_checkpoint.load, "a.ckpt", saved(gan)),
        "hourglass": Reader(hourglass_checkpoint.load, "a.pth", saved({"epoch": 1, "state_dict": stage1})),
        "encoder-decoder": Reader(encoder_decoder_checkpoint.load, "a.pth", saved(decoder)),
        "checkpoint": Reader(checkpoint.load, "a.bin", saved(state)),
        "whole network": Reader(hourglass_checkpoint.load, "a.pth", saved(torch.nn.Sequential(torch.nn.Linear(2, 2)))),
        "yaml": Reader(load_yaml, "a.yaml", b"epochs: 5\nlist: &a [1, 2]\nother: *a\ndate: 2020-01-01\nx: !!int 0b1\n"),
        "joint map": Reader(read_map, "a.yaml", b"left knee: LeftLeg\nhip: [a, b]\n"),
        "json": Reader(load_json, "a.json", json.dumps([{"image": "a.jpg", "joints": [[1, 2]] * 16}]).encode()),
        "openpose": Reader(read_keypoints, "a.json", json.dumps(openpose).encode()),
        "alphapose": Reader(read_keypoints, "a.json", json.dumps(alphapose).encode()),
        "keypoints": Reader(read_keypoints, "a.npz", of("points.npz")),
        "bvh": Reader(read_motion, "a.bvh", BVH.encode()),
        "amc": Reader(read_motion, "motion.amc", AMC.encode()),
        "asf": Reader(lambda path: read_motion(path.with_name("m.amc")), "m.asf", ASF.encode()),
        "motion": Reader(read_motion, "a.npz", of("motion.npz")),
        "labels": Reader(lambda path: read_labels(path.parent), "labels.h5", of("labels.h5")),
        "image": Reader(lambda path: open_rgb(path).load(), "a.png", image.getvalue()),
        "metrics": Reader(read_metrics, "metrics.csv", b"epoch,loss\n1,0.5\n2,0.25\n"),
    }  # fmt: skip


def packed_again(good: bytes, draw: random.Random) -> bytes:
    """An archive with damage within one of its members, which its checksums do not tell."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good)) as archive, zipfile.ZipFile(result, "w") as copy:
        chosen = draw.choice(archive.namelist())
        for name in archive.namelist():
            data = archive.read(name)
            copy.writestr(name, damaged(data, draw) if name == chosen else data)
    return result.getvalue()


def damaged(good: bytes, draw: random.Random) -> bytes:
    """A file with a few bytes, numbers or stretches changed."""
    data = bytearray(good)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        at, kind = draw.randrange(len(data) or 1), draw.randrange(7)
        if kind == 0:
            data[at : at + 1] = bytes([draw.randrange(256)])
        elif kind == 1:
            data[at : at + 1] = bytes([(data[at] if data else 0) ^ 1 << draw.randrange(8)])
        elif kind == 2:
            data = data[:at]
        elif kind == 3:
            data[at : at + 4] = draw.choice((b"\xff" * 4, b"\x7f" * 4, b"\x00" * 4, b"\xff\xff\xff\x7f"))
        elif kind == 4:
            data[at:at] = draw.choice(
                (b"9" * 5000, b"-1", b"1e999", b"nan", b"\x1b[31m", b"\xed\xa0\x80", b"]" * 9, b":", b"\n")
            )
        elif kind == 5:
            other = draw.randrange(len(data) or 1)
            data[at:at] = data[other : other + draw.randrange(1, 40)]
        else:
            del data[at : at + draw.randrange(1, 40)]
    return bytes(data)


def findings(
    folder: Path, seed: int, kinds: dict[str, Reader] | None = None
) -> Iterator[tuple[str, Path, BaseException] | None]:
    """Read damaged files without end, a kind after the other; what is no InputError of one plain line comes out."""
    kinds = kinds or readers(folder)
    draw = random.Random(seed)
    beside = folder / "beside"
    beside.mkdir(exist_ok=True)
    (beside / "m.amc").write_text(AMC)
    (beside / "motion.asf").write_text(ASF)
    while True:
        for kind, (read, name, good) in kinds.items():
            path = beside / name
            within = good[:4] == b"PK\3\4" and draw.random() < 0.8
            path.write_bytes(packed_again(good, draw) if within else damaged(good, draw))
            try:
                read(path)
            except InputError as error:
                if "\n" in str(error) or not str(error).isprintable():
                    yield kind, path, error
                    continue
            except Exception as error:  # noqa: BLE001  whatever it is: this is what is looked for
                yield kind, path, error
                continue
            yield None


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)

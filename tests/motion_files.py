"""Small motion capture files of the true formats, of one person who walks, waves and squats.

write_clip(tmp_path / "anna" / "walk.bvh", "mixamo")
write_acclaim(tmp_path / "02", frames=60)
"""

import re
from functools import cache
from pathlib import Path

import numpy as np

from common.synthetic import dataset
from common.video.bvh import write_bvh

# What a joint of the files that `common.video.bvh` writes is called elsewhere.
_SIDES = ("UpLeg", "Leg", "Foot", "Shoulder", "Arm", "ForeArm", "Hand")
_NAMES = {
    "cmu": {},
    "mixamo": {"LowerBack": "Spine", "Spine": "Spine1", "Neck1": "NeckTurn"},
    "lafan1": {"LowerBack": "Spine", "Spine": "Spine1", "Neck1": "NeckTurn"},
    "3dsmax": {"LowerBack": "Waist", "Spine": "Chest", "Neck1": "NeckTurn"}
    | dict(zip(_SIDES, ("Hip", "Knee", "Ankle", "Collar", "Shoulder", "Elbow", "Wrist"), strict=True)),
    "biped": {"Hips": "Bip01", "LowerBack": "Bip01 Spine", "Spine": "Bip01 Spine1"}
    | {"Neck": "Bip01 Neck", "Neck1": "Bip01 Turn", "Head": "Bip01 Head"}
    | dict(zip(_SIDES, ("Thigh", "Calf", "Foot", "Clavicle", "UpperArm", "Forearm", "Hand"), strict=True)),
    "daz": {"Hips": "hip", "LowerBack": "waist", "Spine": "abdomen", "Neck1": "turn", "Neck": "neck", "Head": "head"}
    | dict(zip(_SIDES, ("Thigh", "Shin", "Foot", "Collar", "Shldr", "ForeArm", "Hand"), strict=True)),
}  # fmt: skip
_SIDE_FORMS = {"biped": "Bip01 {0} {2}", "daz": "{1}{2}"}  # L, l, and the part


def person(frames: int = 100, action: str = "Walking", subject: str = "S6") -> np.ndarray:
    """Poses (frames up to 100, 17, 3), metres, z up, 50 Hz, constant bone lengths; the hip is between its joints."""
    poses = _takes(subject)[action][:frames].astype(float)
    return np.concatenate((poses[:, [1, 4]].mean(1, keepdims=True), poses[:, 1:]), 1)


@cache
def _takes(subject: str) -> dict:
    return dataset.make_poses(seed=0, seconds=2, subjects=(subject,))[subject]


def write_clip(path: Path, preset: str = "cmu", poses=None, fps: float = 50, scale: float = 1, up: str = "y") -> Path:
    """A BVH file with the joint names of a preset; `scale`: units of a metre; `up`: y or z."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bvh(path, person() if poses is None else poses, fps)
    head, rows = path.read_text().split("MOTION\n")
    head = re.sub(r"(ROOT|JOINT) (\S+)", lambda match: f"{match[1]} {_rename(match[2], preset)}", head)
    if preset == "mixamo":  # the head's end is a joint of its own
        head = re.sub(
            r"End Site\n\t+\{\n\t+OFFSET (\S+ \S+ \S+)\n\t+\}(?=\n\t+\}\n\t+\}\n\t+JOINT mixamorig:LeftShoulder)",
            r"JOINT mixamorig:HeadTop_End\n{\nOFFSET \1\nCHANNELS 0\nEnd Site\n{\nOFFSET 0 0 0\n}\n}", head,
        )  # fmt: skip
    head = re.sub(
        r"OFFSET (\S+) (\S+) (\S+)", lambda m: "OFFSET " + " ".join(f"{float(v) * scale:.5f}" for v in m.groups()), head
    )
    first, second, *frames = rows.strip().split("\n")
    values = np.array([row.split() for row in frames], float)
    values[:, :3] *= scale
    if up == "z":  # a quarter turn of the root about x: turn first, so the angles go to another order of channels
        head = head.replace("Zposition Zrotation Xrotation", "Zposition Xrotation Zrotation Xrotation", 1)
        head = head.replace("CHANNELS 6 ", "CHANNELS 7 ", 1)
        x, y, z = values[:, :3].T
        values = np.column_stack((x, -z, y, np.full(len(values), 90.0), values[:, 3:]))
    lines = [" ".join(f"{value:.6f}" for value in row) for row in values]
    path.write_text(head + "\n".join(["MOTION", first, second, *lines]) + "\n")
    return path


def _rename(name: str, preset: str) -> str:
    names = _NAMES[preset]
    side = re.fullmatch(r"(Left|Right)(.*)", name)
    if side and side[2] in _SIDES:
        part = names.get(side[2], side[2])
        form = _SIDE_FORMS.get(preset)
        name = form.format(side[1][0], side[1][0].lower(), part) if form else side[1] + part
    else:
        name = names.get(name, name)
    return f"mixamorig:{name}" if preset == "mixamo" else name


# CMU's bones, each from the end of its parent: direction and length (0.05644 m), degrees of freedom.
_BONES = (
    ("lhipjoint", "root", (0.6, -0.75, 0.28), 2.4, ""), ("lfemur", "lhipjoint", (0.34, -0.94, 0), 7.2, "rx ry rz"),
    ("ltibia", "lfemur", (0.34, -0.94, 0), 7.4, "rx"), ("lfoot", "ltibia", (0, -0.2, 0.98), 2.2, "rx rz"),
    ("lowerback", "root", (0, 1, 0), 2.0, "rx ry rz"), ("upperback", "lowerback", (0, 1, 0), 2.0, "rx ry rz"),
    ("thorax", "upperback", (0, 1, 0), 2.0, "rx ry rz"), ("lowerneck", "thorax", (0, 1, 0), 1.6, "rx ry rz"),
    ("upperneck", "lowerneck", (0, 1, 0.2), 1.6, "rx ry rz"), ("head", "upperneck", (0, 1, 0), 1.7, "rx ry rz"),
    ("lclavicle", "thorax", (0.9, 0.4, 0), 3.4, "ry rz"), ("lhumerus", "lclavicle", (1, 0, 0), 4.9, "rx ry rz"),
    ("lradius", "lhumerus", (1, 0, 0), 3.2, "rx"), ("lwrist", "lradius", (1, 0, 0), 1.5, "ry"),
)  # fmt: skip


def _mirrored(name: str) -> str:
    return "r" + name[1:] if name.startswith("l") and not name.startswith("lower") else name


def acclaim_bones() -> list[tuple]:
    """All bones: the right side is the mirror image of the left one."""
    right = [
        (_mirrored(name), _mirrored(parent), (-x, y, z), length, dof)
        for name, parent, (x, y, z), length, dof in _BONES
        if _mirrored(name) != name
    ]
    return [*_BONES, *right]


def write_acclaim(folder: Path, frames: int = 240, number: int = 1) -> Path:
    """FOLDER/02.asf and 02_01.amc, 120 frames per second: somebody who squats, swings the arms and glides off."""
    folder.mkdir(parents=True, exist_ok=True)
    bones = acclaim_bones()
    lines = [":version 1.10", ":name VICON", ":units", "  mass 1.0", "  length 0.45", "  angle deg", ":root"]
    lines += ["  order TX TY TZ RX RY RZ", "  axis XYZ", "  position 0 0 0", "  orientation 0 0 0", ":bonedata"]
    for i, (name, _, direction, length, dof) in enumerate(bones):
        lines += ["  begin", f"    id {i + 1}", f"    name {name}", "    direction {} {} {}".format(*direction)]
        lines += [f"    length {length}", "    axis 0 0 0  XYZ", *([f"    dof {dof}"] if dof else []), "  end"]
    lines += [":hierarchy", "  begin", *(f"    {parent} {name}" for name, parent, *_ in bones), "  end"]
    (folder / "02.asf").write_text("\n".join(lines) + "\n")
    text = ["#!OML:ASF 02.asf", ":FULLY-SPECIFIED", ":DEGREES"]
    for t in range(frames):
        bend = 30 + 30 * np.sin(t / 20)
        text += [str(t + 1), f"root 0 {16.3 - bend / 20:.4f} {t / 30:.4f} 0 0 0"]
        angles = {"femur": (-bend / 2, 0, 0), "tibia": (bend,), "radius": (0,)}
        for name, *_, dof in bones:
            values = angles.get(name[1:], (0,) * len(dof.split()))
            if name[1:] == "humerus":
                values = (0, 0, (-70 if name[0] == "l" else 70) + 10 * np.sin(t / 15))
            text += [f"{name} " + " ".join(f"{value:.5g}" for value in values)] if dof else []
    path = folder / f"02_{number:02d}.amc"
    path.write_text("\n".join(text) + "\n")
    return path


SMPL_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)


def smpl_rest() -> np.ndarray:
    """The 22 body joints (22, 3) of somebody in SMPL's rest pose: metres, y up, left along x, looks along z."""
    centre = {
        0: (0, -0.22, 0),
        3: (0, -0.11, 0),
        6: (0, 0.03, 0),
        9: (0, 0.08, 0),
        12: (0, 0.29, 0),
        15: (0, 0.38, 0.05),
    }
    left = {1: (0.07, -0.31, 0), 4: (0.1, -0.7, 0), 7: (0.09, -1.1, -0.03), 10: (0.12, -1.15, 0.1), 13: (0.08, 0.2, 0)}
    left |= {16: (0.18, 0.24, 0), 18: (0.44, 0.22, 0), 20: (0.69, 0.23, 0)}
    joints = centre | left | {number + 1: (-x, y, z) for number, (x, y, z) in left.items()}
    return np.array([joints[number] for number in range(22)])


def write_smpl_model(path: Path, shapes: int = 4) -> np.ndarray:
    """A body model of 60 points, the first 22 are its joints at rest; returns its shapedirs (60, 3, shapes)."""
    rng = np.random.default_rng(0)
    template = np.concatenate((smpl_rest(), rng.normal(size=(38, 3))))
    directions = rng.normal(0, 0.01, (60, 3, shapes))
    tree = np.array((np.array(SMPL_PARENTS) % 2**32, np.arange(22)), dtype=np.uint32)
    np.savez(path, J_regressor=np.eye(22, 60), v_template=template, shapedirs=directions, kintree_table=tree)
    return directions

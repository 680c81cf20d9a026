"""common.joint_names: the names of other people's joints mean ours, or are left as they are."""

import numpy as np
import pytest

from common.errors import InputError
from common.joint_names import named_layout, plain_name
from common.skeleton import COCO_17, H36M_16, H36M_17, H36M_32, conversion_matrix, convert

LIMBS = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")


@pytest.mark.parametrize(
    "name, plain",
    [
        ("left_ankle", "left ankle"), ("LeftAnkle", "left ankle"), ("L_Ankle", "left ankle"), ("lankle", "left ankle"),
        ("LAnkle", "left ankle"), ("ankle.L", "left ankle"), ("knee_right", "right knee"), ("mixamorig:Hips", "hips"),
        ("Spine1", "spine 1"), ("HeadTop_End", "head top end"), ("r-hip", "right hip"), ("leg", "leg"),
    ],
)  # fmt: skip
def test_spellings(name, plain):
    assert plain_name(name) == plain


@pytest.mark.parametrize("skeleton", [H36M_32, H36M_17, H36M_16, COCO_17])
def test_our_own_layouts_come_back(skeleton):
    found = named_layout("mine", skeleton.joints, skeleton.parents)
    if skeleton is H36M_32:  # all copies and ends keep their names
        assert found.joints == skeleton.joints
    assert found.parents == skeleton.parents
    for target in (H36M_17, H36M_16):
        np.testing.assert_array_equal(conversion_matrix(found, target), conversion_matrix(skeleton, target))


@pytest.mark.parametrize("style", ["{side}_{limb}", "{S}{Limb}", "{limb}.{s}", "{Side} {Limb}", "{s}{limb}"])
def test_fewest_joints(style):
    """Twelve of the limbs and a head are enough."""
    names = ["head"] + [
        style.format(side=side, limb=limb, S=side[0].upper(), s=side[0], Side=side.title(), Limb=limb.title())
        for side in ("left", "right") for limb in LIMBS
    ]  # fmt: skip
    skeleton = named_layout("mine", names)
    points = np.arange(len(names), dtype=float)[None, :, None].repeat(3, -1)
    found = dict(zip(H36M_17.joints, convert(points, skeleton, H36M_17)[0, :, 0], strict=True))
    assert (found["head"], found["left hip"], found["left foot"], found["right wrist"]) == (0, 1, 3, 12)
    assert found["hip"] == 4 and found["thorax"] == 7 and found["spine"] == 5.5 and found["neck"] == 3.5


def test_collar_bones_and_toes_are_no_shoulders_and_feet():
    names = "Hips Spine Spine1 Neck Head HeadTop_End".split()
    parts = "UpLeg Leg Foot ToeBase Shoulder Arm ForeArm Hand".split()
    names += [side + part for side in ("Left", "Right") for part in parts]
    found = named_layout("mixamo", names)
    wanted = {"LeftUpLeg": "left hip", "LeftLeg": "left knee", "LeftFoot": "left foot", "LeftArm": "left shoulder",
              "RightForeArm": "right elbow", "RightHand": "right wrist", "Neck": "thorax",
              "HeadTop_End": "head"}  # fmt: skip
    assert {name: found.joints[names.index(name)] for name in wanted} == wanted
    smpl = named_layout("smpl", ["pelvis", "left_ankle", "left_foot", "neck"])
    assert smpl.joints[1] == "left foot" and smpl.joints[2] != "left foot" and smpl.joints[3] == "thorax"
    assert named_layout("both", ["thorax", "neck"]).joints == ("thorax", "neck")


def test_what_is_no_layout():
    with pytest.raises(InputError, match="mine: joint names mean the same: LKnee, left_knee"):
        named_layout("mine", ["left_knee", "LKnee"])
    with pytest.raises(InputError, match="mine: joint names are missing"):
        named_layout("mine", [])
    for parents in ((-1,), (-1, -1), (0, 5), (-2, -1)):
        with pytest.raises(InputError, match="expected the places of 2 parents, -1 for the one root"):
            named_layout("mine", ["a", "b"], parents)
    with pytest.raises(InputError, match="go round in a circle"):
        named_layout("mine", ["a", "b", "c"], (-1, 2, 1))
    with pytest.raises(InputError, match="cannot convert mine to Human3.6M 17 joints: it has no right knee, left knee"):
        conversion_matrix(
            named_layout("mine", ["head", *(s + limb for s in ("l_", "r_") for limb in LIMBS if limb != "knee")]),
            H36M_17,
        )

"""What lifters see: the forms of their input and its mirror image."""

import json
from dataclasses import replace

import pytest
import torch

from common.camera import h36m_cameras
from common.errors import InputError
from common.lifter_input import (
    LifterInput,
    facing,
    make_input,
    mirror_input,
    named_form,
    person_centred,
    saved_form,
    slopes_of,
)
from common.pose_set import PoseSet, Sequence, ray_slopes, screen_keypoints, seen, sequence_index
from common.skeleton import H36M_16, mirror

FORMS = [LifterInput(sees, sure) for sees in ("place", "pose", "direction") for sure in (False, True)]


def keypoints(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 16, 2, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("shape", [(4,), (4, 9)], ids=str)
def test_forms_have_the_features_they_name(form, shape):
    made = make_input(form, keypoints(*shape), torch.zeros(*shape, 2), torch.ones(*shape, 16))
    assert made.shape == (*shape, 16, form.features)
    assert named_form(json.loads(json.dumps({"sees": form.sees, "confidences": form.confidences}))) == form


def test_the_pose_alone_forgets_place_and_size():
    points = keypoints(5)
    moved = 0.3 * points + torch.tensor((4.0, -2.0))
    assert torch.allclose(person_centred(points), person_centred(moved), atol=1e-5)
    assert torch.allclose(person_centred(points).norm(dim=-1).mean(-1), torch.ones(5))
    assert torch.equal(person_centred(torch.zeros(1, 16, 2)), torch.zeros(1, 16, 2))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_mirrored_input_is_the_input_of_the_mirrored_person(form):
    points, slopes, sure = keypoints(3, 2), torch.randn(3, 2, 2), torch.rand(3, 2, 16)
    order = list(H36M_16.mirror)
    other = make_input(form, mirror(points, H36M_16), slopes * torch.tensor((-1.0, 1.0)), sure[..., order])
    assert torch.allclose(mirror_input(make_input(form, points, slopes, sure), H36M_16), other)


def test_slopes_are_those_of_the_ray_to_the_hip():
    camera = h36m_cameras()["S9"][0]
    poses = torch.randn(6, 16, 3) * 0.3 + torch.tensor((0.4, -0.2, 5.0))
    pixels = poses[..., :2] / poses[..., 2:] * torch.tensor(camera.focal) + torch.tensor(camera.centre)
    sequences = (Sequence("S9", "Walking", 0, 0, 6, camera, "tiny"),)
    one = PoseSet(pixels, H36M_16, sequences, sequence_index(sequences), torch.arange(6), poses)
    expected = poses[:, 0, :2] / poses[:, 0, 2:]
    assert torch.allclose(ray_slopes(one), expected, atol=1e-5)
    assert torch.allclose(seen(one, LifterInput("direction")).inputs[:, 7, 2:], expected, atol=1e-5)
    assert torch.equal(seen(one, LifterInput()).inputs, screen_keypoints(one))
    assert torch.allclose(slopes_of(torch.tensor([[1500.0, 540.0]]), (1920, 1080), 1000.0), torch.tensor([[0.54, 0.0]]))


def test_facing_turns_the_axis_into_the_ray_and_no_further():
    slopes = torch.tensor([[0.0, 0.0], [0.5, 0.0], [-0.3, 0.8], [3.0, -4.0]])
    turns = facing(slopes)
    ray = torch.nn.functional.normalize(torch.cat((slopes, torch.ones(4, 1)), 1), dim=1)
    assert torch.allclose(turns[:, :, 2], ray, atol=1e-6)
    assert torch.allclose(turns @ turns.mT, torch.eye(3).expand(4, 3, 3), atol=1e-6)
    assert torch.allclose(turns.diagonal(dim1=1, dim2=2).sum(1), 1 + 2 * ray[:, 2], atol=1e-5)  # the smallest turn


@pytest.mark.parametrize(("options", "features"), [({"sees": "direction"}, 2), ({"sees": "moon"}, 2), ({}, 3)], ids=str)
def test_options_that_do_not_fit_the_weights(options, features):
    with pytest.raises(InputError, match=f"a.bin: its lifter takes {features} numbers"):
        saved_form(options, features, "a.bin")


def test_a_pose_along_the_ray_is_turned_back_into_the_cameras_axes():
    """What a lifter of the pose alone is trained on and what its poses are turned by are each other's inverse; of a
    person in the middle of the picture neither changes anything.
    """
    camera = h36m_cameras()["S9"][0]
    poses = torch.randn(6, 16, 3) * 0.3 + torch.tensor((0.9, -0.6, 4.0))
    poses[0, 0, :2] = 0
    pixels = poses[..., :2] / poses[..., 2:] * torch.tensor(camera.focal) + torch.tensor(camera.centre)
    sequences = (Sequence("S9", "Walking", 0, 0, 6, camera, "tiny"),)
    one = PoseSet(pixels, H36M_16, sequences, sequence_index(sequences), torch.arange(6), poses)
    turns = seen(one, LifterInput("pose")).turns
    along = one.relative @ turns
    assert torch.allclose(along @ turns.mT, one.relative, atol=1e-6)
    assert torch.allclose(along[0], one.relative[0], atol=1e-4) and not torch.allclose(along[1], one.relative[1])
    hips = torch.nn.functional.normalize(poses[:, 0], dim=-1)
    assert torch.allclose((hips[:, None] @ turns)[:, 0], torch.tensor((0.0, 0.0, 1.0)).expand(6, 3), atol=1e-4)
    assert seen(one, LifterInput()).turns is None
    unknown = replace(
        one, keypoints=screen_keypoints(one), unit="screen", sequences=(sequences[0]._replace(camera=None),)
    )
    assert torch.allclose(
        seen(unknown, LifterInput("pose")).turns[:, :, 2], facing(unknown.keypoints[:, 0] / 1.8)[:, :, 2]
    )

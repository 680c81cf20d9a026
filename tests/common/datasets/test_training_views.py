"""Training poses as options have lifters see them."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from common.bones import bone_lengths, bone_vectors
from common.camera import project
from common.datasets.training_views import (
    INPUT,
    VIEWS,
    check_views,
    first_look,
    ranges_of,
    training_views,
    virtual_views,
)
from common.lifter_input import facing
from common.pose_set import PoseSet, Sequence, sequence_index
from common.run.options import Parser
from common.run.run import Run
from common.skeleton import H36M_16, H36M_17


def options(*words: str):
    parser = Parser()
    parser.add_table("views", INPUT, VIEWS)
    args = parser.parse_args(list(words))
    check_views(parser, args)
    return args


def motion(count: int = 60) -> PoseSet:
    generator = torch.Generator().manual_seed(0)
    poses = torch.randn(count, 16, 3, generator=generator) * 0.3 + torch.tensor((1.0, 2.0, 1.0))
    sequences = (Sequence("A", "Walk", 0, 0, 40), Sequence("A", "Run", 0, 40, count - 40))
    return PoseSet(poses[..., :0], H36M_16, sequences, sequence_index(sequences), torch.arange(count), poses)


def run(seed: int = 0, rank: int = 0, world_size: int = 1) -> Run:
    device = torch.device("cpu")
    return Run(device, torch.Generator().manual_seed(seed), rank=rank, world_size=world_size)


VIRTUAL = ("--cameras", "virtual", "--vary_bones", "0.1", "--detectors_joints", "--detector_noise", "1")


@pytest.mark.parametrize("frames", [1, 9])
@pytest.mark.parametrize("sees", ["place", "pose", "direction"])
def test_shapes_and_draws(sees, frames):
    args = options(*VIRTUAL, "--sees", sees, "--confidences")
    index = torch.tensor([3, 41, 59, 7])
    window = () if frames == 1 else (frames,)
    inputs, target = training_views(args, motion(), run(), frames, flip=True)(index)
    assert inputs.shape == (4, *window, 16, 3 + 2 * (sees == "direction")) and target.shape == (4, 16, 3)
    assert torch.equal(target[:, 0], torch.zeros(4, 3)) and inputs.isfinite().all()
    again = training_views(args, motion(), run(), frames, flip=True)(index)
    assert torch.equal(again[0], inputs) and torch.equal(again[1], target)  # of the run's generator alone
    assert not torch.equal(training_views(args, motion(), run(1), frames, flip=True)(index)[0], inputs)


def test_exact_views_project_the_target():
    """Without noise the screen coordinates are those of the target, moved along its ray: sizes and depths agree."""
    args = options("--cameras", "virtual", "--camera_roll=0,0", "--camera_focal=1,1", "--sees", "direction")
    keypoints, target = training_views(args, motion(), run())(torch.arange(60))
    screen = training_views(options("--cameras", "virtual", "--camera_roll=0,0", "--camera_focal=1,1"), motion(), run())
    points, same = screen(torch.arange(60))
    assert torch.equal(same, target)
    # the hip's distance is the one number that the view does not tell: fit it to the first joints, check on all
    lens = torch.tensor((2.0, 2.0, *[0.0] * 7))
    slope = points[:, 0] / 2
    distances = torch.linspace(2.0, 8.4, 4000)
    errors = []
    for d in distances.split(400):
        ray = torch.cat((slope, torch.ones(60, 1)), 1)
        hips = ray[None] / ray.norm(dim=1)[None, :, None] * d[:, None, None]
        errors.append((project(target + hips[:, :, None], lens, clamped=False) - points).abs().amax((2, 3)))
    assert torch.cat(errors).amin(0).max() < 2e-3
    assert keypoints.shape == (60, 16, 4)


@pytest.mark.parametrize("frames", [1, 9])
def test_the_true_head_is_asked_for_and_the_guessed_one_shown(frames):
    """Seen from straight above a turn about the vertical is all between world and camera: heights tell."""
    words = ("--cameras", "virtual", "--camera_roll=0,0", "--camera_pitch=90,90")
    index, head = torch.arange(40), H36M_16.index("head")
    moved = training_views(options(*words, "--detectors_joints"), motion(), run(), frames)(index)[1]
    poses = motion().poses[index]
    below = moved[:, head, 2] - moved[:, H36M_16.index("left knee"), 2]  # downwards, as the camera looks
    assert torch.allclose(below, poses[:, H36M_16.index("left knee"), 2] - poses[:, head, 2], atol=1e-4)


def test_processes_share_the_draws_of_one():
    args, index = options(*VIRTUAL, "--sees", "pose"), torch.arange(20)
    whole = training_views(args, motion(), run())(index)
    for rank in range(2):
        part = training_views(args, motion(), run(rank=rank, world_size=2))(index)
        assert torch.equal(part[0], whole[0][rank::2]) and torch.equal(part[1], whole[1][rank::2])


@pytest.mark.parametrize("shape", [(20,), (10, 2)])
def test_any_joints_of_frames_that_one_camera_sees(shape):
    """As methods of other joints than `training_views` have them; the first look is the same at any time."""
    data = replace(motion(), poses=motion().poses[:, [0, *range(16)]], skeleton=H36M_17)
    rows, shared, ranges = torch.arange(20).view(shape), run(), ranges_of(options("--cameras", "virtual"))
    see = virtual_views(ranges, data, shared, bones=0.1)
    seen = see(rows)
    assert seen.keypoints.shape == (*shape, 17, 2) and seen.poses.shape == (*shape, 17, 3)
    again = virtual_views(ranges, data, run(), bones=0.1)
    first = first_look(again, rows, shared)
    assert torch.equal(again(rows).keypoints, seen.keypoints)  # a first look takes nothing from the run's draws
    assert torch.equal(first_look(see, rows, shared).poses, first.poses)
    bones = [bone_lengths(bone_vectors(poses, H36M_17)) for poses in (seen.poses, data.poses[rows])]
    ratio = bones[0][..., 1:] / bones[1][..., 1:]
    assert 0.8 < ratio.min() and ratio.max() < 1.22 and ratio.std() > 0.03
    if len(shape) == 2:
        assert torch.allclose(ratio[:, 0], ratio[:, 1], atol=1e-3)  # the same body in both frames


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--vary_bones", "0.1"), "--vary_bones: only with --cameras virtual"),
        (("--camera_pitch=0,10",), "--camera_pitch: only with --cameras virtual"),
        (("--cameras", "virtual", "--camera_distance=0,3"), "--camera_distance 0,3: expected numbers above 0"),
        (("--cameras", "virtual", "--camera_distance=1,3"), "--camera_distance 1,3: expected 1.2 metres or more"),
        (("--cameras", "virtual", "--camera_roll=9,-9"), "expected LOW,HIGH"),
        (("--cameras", "virtual", "--camera_roll=9"), "expected LOW,HIGH"),
        (("--cameras", "virtual", "--camera_focal=nan,inf"), "expected LOW,HIGH"),
    ],
    ids=str,
)
def test_options_that_do_not_fit(words, said, capsys):
    with pytest.raises(SystemExit) as left:
        options(*words)
    assert left.value.code == 2 and said in capsys.readouterr().err


def test_published_steps_see_the_sets_own_keypoints():
    seen = SimpleNamespace(**vars(options()))
    assert (seen.sees, seen.cameras, seen.detector_noise) == ("place", "rig", 0.0)


@pytest.mark.parametrize("frames", [1, 9])
def test_the_pose_alone_is_asked_for_along_the_ray(frames):
    ranges = ("--cameras", "virtual", "--camera_focal=1,1")
    index, here = torch.arange(60), () if frames == 1 else (frames // 2,)
    points, target = training_views(options(*ranges), motion(), run(), frames)(index)
    _, along = training_views(options(*ranges, "--sees", "pose"), motion(), run(), frames)(index)
    slopes = points[(slice(None), *here, 0)] / 2  # in screen coordinates the focal length is 2 here
    assert torch.allclose(along @ facing(slopes).mT, target, atol=1e-5) and not torch.allclose(along, target, atol=0.01)


def test_windows_of_other_rates():
    count, frames = 400, 5
    at = torch.arange(count, dtype=torch.float32)[:, None, None].expand(count, 16, 2)
    sequences = (Sequence("A", "Walk", 0, 0, count),)
    poses = torch.zeros(count, 16, 3)
    train = PoseSet(at, H36M_16, sequences, sequence_index(sequences), torch.arange(count), poses, unit="screen")
    inputs, _ = training_views(options("--vary_rate", "3"), train, run(), frames)(torch.arange(50, 350))
    steps = inputs[:, :, 0, 0].diff(dim=1)
    assert torch.equal(steps, steps[:, :1].expand_as(steps)) and steps.unique().tolist() == [1, 2, 3]
    assert torch.equal(inputs[:, frames // 2, 0, 0], torch.arange(50.0, 350.0))

"""The poses of a PoseAug run on the device: real pairs, poses with swapped bone lengths, and what the augmentor makes.

Every tensor stays where it is in memory from the first step to the last, so that steps can be captured as CUDA graphs.
"""

import torch
from torch import Tensor

from common.bones import with_lengths
from common.camera import project
from common.datasets.training_views import Look
from common.pose_set import PoseSet, screen_keypoints
from common.run.run import Run, derived_seed
from models.poseaug.augmentor import AugmentedPoses
from models.poseaug.losses import in_view
from models.poseaug.replay_pool import ReplayPool

SWAPPED_AT_ONCE = 1 << 16


class AugmentedData:
    """N training poses and as many made from them.

    keypoints: (2 N, 16, 2), poses: (2 N, 16, 3): pairs for the lifter, screen-normalised and root-relative metres; the
    first N are the real ones (2D from the detector), the others this epoch's made ones.
    source_2d, source_3d: (N, 16, 2 and 3), the real poses, absolute, with other people's bone lengths, and their
    projections: what is augmented, and what the discriminators take for real.
    fake_2d, fake_3d: the last step's made poses, of all processes, for the discriminators; pool_2d, pool_3d: of which
    these see earlier ones, too.
    shown_2d, shown_3d: (4, 16, 2 and 3), one pose of the last step through the stages of augmentation, for a picture.

    Args:
        train: the real poses, with cameras, or, for virtual ones, motion in the world (`load_motion`).
        templates: (people, 15), bone lengths in metres.
        batch_size: of all processes.
        look: how virtual cameras see the real poses: anew in every epoch, in which each is seen once.
    """

    def __init__(self, train: PoseSet, templates: Tensor, run: Run, batch_size: int, look: Look | None = None):
        self.train, self.templates, self.run, self.look = train, templates.to(run.device), run, look
        self.count = len(train)
        self.keypoints, self.poses = (train.poses.new_zeros(2 * self.count, 16, size) for size in (2, 3))
        if look:
            self.intrinsics, self.camera_of = train.poses.new_zeros(self.count, 9), self.real_rows()
        else:
            self.intrinsics, self.camera_of = train.intrinsics("screen"), train.sequence
            self.keypoints[: self.count], self.poses[: self.count] = screen_keypoints(train), train.relative
        self.in_view = torch.zeros(self.count, device=run.device)
        self.source_2d, self.source_3d = (torch.zeros_like(x[: self.count]) for x in (self.keypoints, self.poses))
        room = batch_size + 2 * run.world_size  # the last batch of an epoch may be longer
        self.fake_2d, self.fake_3d = (x.new_zeros(room, *x.shape[1:]) for x in (self.source_2d, self.source_3d))
        self.pool_2d, self.pool_3d = ReplayPool((16, 2), device=run.device), ReplayPool((16, 3), device=run.device)
        self.shown_2d, self.shown_3d = self.keypoints.new_zeros(4, 16, 2), self.poses.new_zeros(4, 16, 3)

    def camera(self, rows: Tensor) -> Tensor:
        """Intrinsics (B, 9), screen units, of the poses `rows` (B,)."""
        return self.intrinsics[self.camera_of[rows]]

    def swap_bone_lengths(self, epoch: int) -> None:
        """Give every pose the bone lengths of a random template, and project it again, for an epoch; with virtual
        cameras each by another one.

        The published code swaps the last epoch's poses, whose directions are the original ones but for rounding.
        """
        draws = torch.Generator(self.run.device).manual_seed(derived_seed(self.run.seed, "bone lengths", epoch))
        person = torch.randint(len(self.templates), (self.count,), generator=draws, device=self.run.device)
        for rows in torch.arange(self.count, device=self.run.device).split(SWAPPED_AT_ONCE):
            poses = self._see_anew(rows, draws) if self.look else self.train.poses[rows]
            poses = with_lengths(poses, self.templates[person[rows]])
            self.source_3d[rows] = poses
            self.source_2d[rows] = project(poses, self.camera(rows).unsqueeze(1))
        for made in (self.in_view, self.keypoints[self.count :], self.poses[self.count :]):
            made.zero_()

    def _see_anew(self, rows: Tensor, draws: torch.Generator) -> Tensor:
        """Real pairs `rows` (B,) by cameras drawn at random -> the poses (B, 16, 3), absolute."""
        views = self.look(rows, draws)
        self.intrinsics[rows], self.keypoints[rows] = views.intrinsics, views.keypoints
        self.poses[rows] = views.poses - views.poses[:, :1]
        return views.poses

    @torch.no_grad()
    def store(self, place: Tensor, made: AugmentedPoses, keypoints: Tensor, count: int) -> None:
        """Keep what the augmentor made: RT's poses, with their projections `keypoints` (B, 16, 2), as pairs for the
        lifter at `place` (B,), 0 to N - 1; and, of all processes' `count`, what the discriminators see.
        """
        self.keypoints.index_copy_(0, place + self.count, keypoints)
        self.poses.index_copy_(0, place + self.count, made.pose_rt - made.pose_rt[:, :1])
        self.in_view.index_copy_(0, place, in_view(keypoints).float())
        self.run.gather(keypoints, self.fake_2d[:count])
        self.run.gather(made.pose_ba, self.fake_3d[:count])

    @torch.no_grad()
    def show(self, poses: Tensor, made: AugmentedPoses, camera: Tensor) -> None:
        """Keep the batch's first pose as it was, and after each stage. poses: (B, 16, 3), absolute; camera: (B, 9)."""
        self.shown_3d.copy_(torch.stack((poses[0], made.pose_ba[0], made.pose_bl[0], made.pose_rt[0])))
        self.shown_2d.copy_(project(self.shown_3d, camera[:1].unsqueeze(1)))

    def real_rows(self) -> Tensor:
        """Rows of the real pairs."""
        return torch.arange(self.count, device=self.run.device)

    def made_rows(self) -> Tensor:
        """Rows of this epoch's made pairs that are in view; with several processes, all of theirs."""
        if self.run.world_size > 1:
            for part in (self.keypoints[self.count :], self.poses[self.count :], self.in_view):
                part.copy_(self.run.world_size * self.run.average(part))  # other processes' rows are zero here
        return self.count + self.in_view.nonzero().squeeze(1)

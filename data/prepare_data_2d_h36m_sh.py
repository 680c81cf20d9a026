"""Make Human3.6M's 2D files of the stacked hourglass from the detections that 3d-pose-baseline published.

python data/prepare_data_2d_h36m_sh.py -pt h36m.zip                                # trained on MPII
python data/prepare_data_2d_h36m_sh.py -ft stacked_hourglass_fine_tuned_240.tgz    # fine-tuned on Human3.6M

Read are (zip, tar, packed tar, or a folder with the same in it; nothing is unpacked to disk):
    -pt  .../S1/StackedHourglass/Directions_1.54138969.h5                 array poses (T, 16, 2), pixels
    -ft  .../S1/StackedHourglassFineTuned240/Directions_1.54138969.h5     the same
120 videos of each subject, 119 of S11; S11's take "Directions" is left out.

Writes to DATA_DIR data_2d_h36m_sh_pt_mpii.npz, data_2d_h36m_sh_ft_h36m.npz (-k sh_pt_mpii, -k sh_ft_h36m):
positions_2d, subject -> take -> four arrays (T, 16, 2) float32, pixels; and metadata. A file that is there is not made
again.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.run.entry import run_script  # noqa: E402

from common.datasets import h36m_takes  # noqa: E402
from common.run.options import Parser  # noqa: E402
from common.skeleton import MPII_16  # noqa: E402

# Which of the hourglass's joints (MPII's places) stands for each of Human3.6M's 16, as published (3d-pose-baseline,
# SemGCN). Places 7, 8 and 9 are taken for spine, thorax and head: so it is in the fine-tuned detections. In those
# trained on MPII place 7 is MPII's thorax, between the shoulders: a quirk that changes published numbers.
PLACES = (6, 2, 1, 0, 3, 4, 5, 7, 8, 9, 13, 14, 15, 12, 11, 10)

OPTIONS = (
    ("-pt --pretrained", Path, None, "detections trained on MPII", "h36m.zip"),
    ("-ft --fine-tuned", Path, None, "detections fine-tuned on Human3.6M", "FILE.tgz"),
    ("--order", ("h36m", "mpii"), "h36m",
     "h36m: 16 joints in Human3.6M's order (SemGCN, PoseAug); mpii: as detected (VideoPose3D)"),
    ("--data-dir", Path, Path(__file__).parent, "where the files go", "DIR"),
    ("--partial", bool, False, "write what there is if videos are missing"),
    ("--force", bool, False, "make the files again if they are there"),
)  # fmt: skip


def main() -> None:
    parser = Parser(__doc__)
    parser.add_table("Data", OPTIONS)
    args = parser.parse_args()
    wanted = [
        (args.pretrained, "StackedHourglass", "data_2d_h36m_sh_pt_mpii.npz"),
        (args.fine_tuned, r"StackedHourglassFineTuned\w*", "data_2d_h36m_sh_ft_h36m.npz"),
    ]
    if not any(source for source, _, _ in wanted):
        parser.error("expected -pt h36m.zip, -ft FILE.tgz or both")
    for source, folder, name in wanted:
        target = args.data_dir / name
        if source and target.exists() and not args.force:
            print(f"{target} is there already: nothing done (--force makes it again)")
        elif source:
            videos = read_detections(source, folder, args.order, args.partial)
            print(h36m_takes.save_keypoints(target, videos, args.order, source))


def read_detections(source: Path, folder: str, order: str, partial: bool) -> h36m_takes.Videos:
    """All videos of an archive's folders, (T, 16, 2) each, in the order of joints asked for."""
    gathered = h36m_takes.Gathered(source)
    pattern = rf"(?P<subject>S\d+)/{folder}/(?P<take>[^/.][^/]*)\.(?P<camera>\d+)\.h5"
    for match, where, data in h36m_takes.archive_files(source, pattern):
        name, camera = gathered.wanted(match["subject"], match["take"]), h36m_takes.camera_number(match["camera"])
        if name and camera is not None:
            values = h36m_takes.read_h5(data, "poses", where)
            points = h36m_takes.keypoints(values, where, MPII_16.num_joints)
            gathered.add_video(match["subject"], name, camera, points[:, PLACES] if order == "h36m" else points)
    return gathered.finish(partial)


if __name__ == "__main__":
    run_script(main)

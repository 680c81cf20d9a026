"""Make the synthetic data sets without any download.

python data/make_synthetic.py [--data-dir data] [--seed 0]
python data/make_synthetic.py --multiview data/multiview [--dataset synthetic] [--size 128] [--frames 200]

The first line makes the motion, in Human3.6M's file layout. The second writes pictures of people in four cameras from
the motion of any set in that layout, as the folder that the encoder-decoder learns from (`labels.h5` and PNGs); what
an interrupted run left is kept and finished.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.run.entry import run_script  # noqa: E402

from tqdm import tqdm  # noqa: E402

from common.h36m import SUBJECTS  # noqa: E402
from common.multiview.write import read_motion, write_multiview  # noqa: E402
from common.run.options import Parser, number  # noqa: E402
from common.synthetic.dataset import ensure  # noqa: E402

OPTIONS = (
    ("-d --data-dir", Path, Path(__file__).parent, "where the files go", "DIR"),
    ("--seed", number(int, 0), 0, "the same seed gives the same files"),
)
MULTIVIEW = (
    ("--multiview", Path, None, "write the multi-view images of a set to DIR", "DIR"),
    ("--dataset", str, "synthetic", "set whose motion is shown: data_3d_NAME.npz", "NAME"),
    ("--subjects", str, ",".join(SUBJECTS), "whom to show", "LIST"),
    ("--size", number(int, 16), 128, "side of the square images, pixels"),
    ("--frames", number(int, 1), 200, "frames of each subject, in four cameras each"),
    ("--force", bool, False, "replace a folder that was made with other options"),
)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_table("Files", OPTIONS)
    parser.add_table("Multi-view images", MULTIVIEW)
    args = parser.parse_args()
    if args.multiview is None or args.dataset == "synthetic":
        for path in ensure(args.data_dir, args.seed):
            print(f"{path}  {path.stat().st_size / 1e6:.0f} MB")
    if args.multiview is None:
        print(f"results in {args.data_dir}")
        return
    poses = read_motion(args.data_dir, args.dataset, args.subjects)
    labels = write_multiview(args.multiview, poses, args.size, args.frames, args.seed, args.force, bar)
    print(f"{labels}  {labels.stat().st_size / 1e6:.1f} MB")
    print(f"results in {args.multiview}")


def bar(samples, total):
    """Progress on a terminal."""
    return tqdm(samples, desc="drawing", total=total, leave=False, disable=not sys.stderr.isatty())


if __name__ == "__main__":
    run_script(main)

"""Make the synthetic data set (Human3.6M's file layout) without any download.

python data/make_synthetic.py [--data-dir data] [--seed 0]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import running  # noqa: E402
from common.options import Parser, number  # noqa: E402
from common.synthetic import ensure  # noqa: E402


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path(__file__).parent, help="where the files go")
    parser.add_argument("--seed", type=number(int, 0), default=0, help="the same seed gives the same files")
    args = parser.parse_args()
    for path in ensure(args.data_dir, args.seed):
        print(f"{path}  {path.stat().st_size / 1e6:.0f} MB")
    print(f"results in {args.data_dir}")


if __name__ == "__main__":
    running.run_script(main)

"""Score an image-to-3D network, ours or released (Zhou et al., ICCV 2017), and save what it finds.

    python test_hourglass.py --exp_id test --task human3d --dataset fusion_3d --load_model FILE --full_test
    python test_hourglass.py --dataset mpii --load_model FILE                    2D: PCK accuracy, and PCKh
    python test_hourglass.py --task human3d --dataset synthetic --load_model FILE --input_h 128 --input_w 128
    python test_hourglass.py --pckh preds.mat                                    PCKh of a file of predictions

Prints PCK accuracy, MPJPE (published: at an average person's size), P-MPJPE, the asymmetry of left and right bones, and
what decoding between pixels gains. Writes preds.npz, preds.mat, results.json and predictions.png into exp/EXP_IDTEST.
"""

from common.run.entry import run_script

import sys

from methods.hourglass import options, scoring


def main() -> None:
    parser = options.testing_parser(__doc__)
    args = parser.parse_args()
    if args.pckh:
        print(scoring.pckh_of_file(args.pckh, args.pckh_truth or scoring.truth_file(args)))
        return
    for text in scoring.score(parser, args, sys.argv, args.pckh_truth, args.vis_html):
        print(text, flush=True)


if __name__ == "__main__":
    run_script(main)

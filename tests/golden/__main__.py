"""Check the project against a folder of reference vectors.

python -m tests.golden DIR [--salt dev] [--only NAME ...]

Prints one row per array (file, array, largest difference, verdict) and leaves with status 1 on a miss. Files of
methods that are not built yet are listed as such.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tests.golden import camera, encoder_decoder, end_to_end, gan, hourglass, hourglass_data, ites, lifters, poseaug
from tests.golden.rule import Golden

# file -> (check, input arrays)
COVERED: dict[str, tuple[Callable[[Golden], None], tuple[str, ...]]] = {
    "camera": (camera.check, camera.INPUTS),
    "ites_teacher": (ites.check_teacher, ites.TEACHER_INPUTS),
    "ites_student": (ites.check_student, ites.STUDENT_INPUTS),
    "ites_protocol": (ites.check_protocol, ites.PROTOCOL_INPUTS),
    **{f"poseaug_{name}": (lifters.check, lifters.INPUTS) for name in ("mlp", "gcn", "videopose", "stgcn")},
    "poseaug_augmentor": (poseaug.check_augmentor, poseaug.AUGMENTOR_INPUTS),
    "poseaug_disc2d": (poseaug.check_disc2d, poseaug.DISC2D_INPUTS),
    "poseaug_disc3d": (poseaug.check_disc3d, poseaug.DISC3D_INPUTS),
    "poseaug_ops": (poseaug.check_ops, poseaug.OPS_INPUTS),
    "poseaug_ganstep": (poseaug.check_ganstep, poseaug.GANSTEP_INPUTS),
    "encdec_model_resnet": (encoder_decoder.check_model, encoder_decoder.MODEL_INPUTS),
    "encdec_model_unet": (encoder_decoder.check_model, encoder_decoder.MODEL_INPUTS),
    "encdec_ops": (encoder_decoder.check_ops, encoder_decoder.OPS_INPUTS),
    "gan_lifter": (gan.check, gan.INPUTS),
    "hg3d_resnet": (hourglass.check_resnet, ()),
    "hg3d_hourglass": (hourglass.check_hourglass, ()),
    "hg3d_ops": (hourglass.check_ops, hourglass.OPS_INPUTS),
    "hg3d_data": (hourglass_data.check_data, hourglass_data.DATA_INPUTS),
    "hg3d_branch_ops": (hourglass.check_branch_ops, hourglass.BRANCH_INPUTS),
    "ites_poseaug_e2e": (end_to_end.check, end_to_end.INPUTS),
}


def main() -> int:
    """Run the checks; the number of misses decides the exit status."""
    parser = argparse.ArgumentParser(description="Check the project against a folder of reference vectors.")
    parser.add_argument("folder", type=Path, help="folder with the .npz files")
    parser.add_argument("--salt", default="dev", help="salt of the fill rule (default: dev)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="check these files only (names without .npz)")
    args = parser.parse_args()

    files = {path.stem: path for path in sorted(args.folder.glob("*.npz"))}
    wanted = args.only or list(files)
    unknown = [name for name in wanted if name not in files]
    if not files or unknown:
        missing, there = ", ".join(unknown) or "no .npz file", ", ".join(files) or "nothing"
        print(f"error: {missing} in {args.folder}; there: {there}", file=sys.stderr)
        return 2

    misses, checked, not_built = [], 0, []
    print(f"{'file':<18} {'array':<64} {'max error':>10}  verdict")
    for name in wanted:
        if name not in COVERED:
            not_built.append(name)
            continue
        check, inputs = COVERED[name]
        golden = Golden(files[name], args.salt)
        check(golden)
        for array, error, good in golden.rows:
            print(f"{name:<18} {array:<64} {error:>10.2e}  {'ok' if good else 'MISS'}")
            misses += [] if good else [f"{name}:{array}"]
        for array in golden.unchecked(inputs):
            print(f"{name:<18} {array:<64} {'':>10}  MISS (not checked)")
            misses.append(f"{name}:{array}")
        checked += len(golden.rows)
    if not_built:
        print(f"not built yet: {', '.join(not_built)}")
    print(f"{checked - len(misses)} arrays agree, {len(misses)} miss" + (f": {', '.join(misses)}" if misses else ""))
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())

"""Score a lifter's checkpoint on Human3.6M and across data sets: PoseAug's evaluation (CVPR 2021).

    python run_evaluate.py --posenet_name 'videopose' --keypoints gt --evaluate FILE
    python run_evaluate.py --posenet_name mlp --stages 2 --keypoints hr --evaluate FILE
    python run_evaluate.py --dataset synthetic --posenet_name mlp --stages 2 --evaluate FILE      needs no other files

Takes the released checkpoints and those of run_baseline.py and run_poseaug.py. Prints the published result lines, then
a table by action, and writes results.json beside the checkpoint (or into --output).
"""

from common.run.entry import run_script

from pathlib import Path

import models
from common.draw import tables
from common.run import checkpoint
from common.run.run import start
from methods.poseaug import evaluation, options, run_folder


def main() -> None:
    parser = options.evaluation_parser(__doc__)
    args = parser.parse_args()
    options.check_lifter(parser, args)
    if not args.evaluate:
        parser.error("which checkpoint? give --evaluate FILE")
    run = start(args)
    file = Path(args.evaluate)
    form = run_folder.saved_input(file)
    args.sees, args.confidences = form
    model = models.create(args.posenet_name, **options.lifter_sizes(args)).to(run.device)
    run_folder.load_lifter(model, file, run.device, form)
    test = evaluation.load_split(args, args.subjects_test, run.device, form=form)
    cross = evaluation.load_cross_data(args, run.device, form)

    scores = evaluation.evaluate_all(model, test, cross, run, args.flip_test, more=True)
    if args.vis_html:
        evaluation.write_page(args.vis_html, model, test, run, args.flip_test, 50 / args.downsample, args.posenet_name)
    if not run.is_main:
        return
    for line in (*(line for part in scores for line in part.lines()), *(part.more_line() for part in scores)):
        print(line)
    print(f"{evaluation.what_was_scored(args, test, cross)}; {evaluation.PCK_AUC}")
    if args.action_wise:
        print(evaluation.action_table(scores[0]))
    path = (args.output or file.parent) / f"results_{file.name.split('.')[0]}_{args.dataset}_{args.keypoints}.json"
    content = {
        "method": args.posenet_name, "checkpoint": str(file), "options": checkpoint.options_json(args), "joints": 16,
        "unit": "mm, MPJVE mm a frame; PCK (150 mm) and AUC in percent", "PCK, AUC": evaluation.PCK_AUC,
        "protocol": evaluation.what_was_scored(args, test, cross),
        "results": {part.split.name.upper(): evaluation.results_dictionary(part) for part in scores},
    }  # fmt: skip
    tables.write_json(path, content)
    if args.vis_html:
        print(f"page: {args.vis_html}")
    print(f"results in {path}")


if __name__ == "__main__":
    run_script(main)

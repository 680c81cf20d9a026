"""Score a trained ITES student by the published protocol, and draw its poses (AAAI 2021).

    python test_student.py -k gt --evaluate -c checkpoint/student/ckpt_student.bin
    python test_student.py -k cpn_ft_h36m_dbb --evaluate -c checkpoint/student/ckpt_student.bin
    python test_student.py -k gt --vis -c checkpoint/student/ckpt_student.bin
    python test_student.py -d synthetic -k gt --evaluate --vis -c checkpoint/student/ckpt_student.bin    needs no files

Prints MPJPE and P-MPJPE in millimetres, then a table by action, and writes results.json (and the GIFs) into --output.
"""

import torch

import models
from common import checkpoint, ites, running
from common.evaluate import write_json


def main() -> None:
    parser = ites.parser(__doc__)
    args = parser.parse_args()
    ites.check_options(parser, args, training=False)
    run = running.start(args)
    model = models.create(
        "student", hidden=args.hid_dim, blocks=args.n_blocks
    ).to(run.device)  # fmt: skip
    saved = checkpoint.load(args.checkpoint, run.device)
    checkpoint.load_weights(model, ites.weights(saved, args.checkpoint), args.checkpoint)
    model.eval()
    test = ites.load(args, args.subjects_test, run.device)
    folder = ites.output_folder(args)

    def predict(keypoints: torch.Tensor) -> torch.Tensor:
        return model(keypoints).pose

    if args.evaluate or not (args.vis or args.vis_html):
        errors = ites.score(predict, test, run)  # shared between processes, if there are several
        if run.is_main:
            text, content = ites.report("student", errors, test, args)
            print(text, flush=True)
            write_json(folder / "results.json", content)
    if args.vis and run.is_main:
        files = ites.draw_sequences(predict, test, args, folder, "student")
        print("pictures:", ", ".join(map(str, files)))
    if args.vis_html and run.is_main:
        print("page:", ites.write_page(predict, test, args, "student"))
    if run.is_main and (args.evaluate or args.vis or not args.vis_html):
        print(f"results in {folder}")


if __name__ == "__main__":
    running.run_script(main)

"""Score a trained ITES student by the published protocol, and draw its poses (AAAI 2021).

    python test_student.py -k gt --evaluate -c checkpoint/student/ckpt_student.bin
    python test_student.py -k cpn_ft_h36m_dbb --evaluate -c checkpoint/student/ckpt_student.bin
    python test_student.py -k gt --vis -c checkpoint/student/ckpt_student.bin
    python test_student.py -d synthetic -k gt --evaluate --vis -c checkpoint/student/ckpt_student.bin    needs no files

Prints MPJPE and P-MPJPE in millimetres, then a table by action, and writes results.json (and the GIFs) into --output.
"""

from common.run.entry import run_script

import torch

import models
from common.draw.tables import write_json
from common.run import checkpoint
from common.run.run import start
from methods.ites import options, pictures, protocol


def main() -> None:
    args = options.testing_parser(__doc__, "student").parse_args()
    run = start(args)
    model = models.create(
        "student", hidden=args.hid_dim, blocks=args.n_blocks
    ).to(run.device)  # fmt: skip
    saved = checkpoint.load(args.checkpoint, run.device)
    checkpoint.load_weights(model, protocol.weights(saved, args.checkpoint), args.checkpoint)
    model.eval()
    test = protocol.load(args, args.subjects_test, run.device)
    folder = protocol.output_folder(args)

    def predict(keypoints: torch.Tensor) -> torch.Tensor:
        return model(keypoints).pose

    if args.evaluate or not (args.vis or args.vis_html):
        errors = protocol.score(predict, test, run)  # shared between processes, if there are several
        if run.is_main:
            text, content = protocol.report("student", errors, test, args)
            print(text, flush=True)
            write_json(folder / "results.json", content)
    if args.vis and run.is_main:
        files = pictures.draw_sequences(predict, test, args, folder, "student")
        print("pictures:", ", ".join(map(str, files)))
    if args.vis_html and run.is_main:
        print("page:", pictures.write_page(predict, test, args, "student"))
    if run.is_main and (args.evaluate or args.vis or not args.vis_html):
        print(f"results in {folder}")


if __name__ == "__main__":
    run_script(main)

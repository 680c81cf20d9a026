"""Score a trained ITES teacher by the published protocol, and draw its poses (AAAI 2021).

    python test_teacher.py -k gt --evaluate -c checkpoint/teacher/ckpt_teacher.bin
    python test_teacher.py -k cpn_ft_h36m_dbb --evaluate -c checkpoint/teacher/ckpt_teacher.bin
    python test_teacher.py -k gt --vis -c checkpoint/teacher/ckpt_teacher.bin
    python test_teacher.py -d synthetic -k gt --evaluate --vis -c checkpoint/teacher/ckpt_teacher.bin   needs no files

Prints MPJPE and P-MPJPE in millimetres, then a table by action, and writes results.json (and the GIFs) into --output.
"""

from common.run.entry import run_script

from functools import partial

import models
from common.draw.tables import write_json
from common.run import checkpoint
from common.run.run import start
from methods.ites import options, pictures, protocol
from models.teacher import published_pose


def main() -> None:
    args = options.testing_parser(__doc__, "teacher").parse_args()
    run = start(args)
    model = models.create(
        "teacher", width=args.n_fully_connected, layers=args.n_layers, basis=args.dict_basis_size
    ).to(run.device)  # fmt: skip
    saved = checkpoint.load(args.checkpoint, run.device)
    checkpoint.load_weights(model, protocol.weights(saved, args.checkpoint), args.checkpoint)
    model.eval()
    test = protocol.load(args, args.subjects_test, run.device)
    folder = protocol.output_folder(args)

    predict = partial(published_pose, model)

    if args.evaluate or not (args.vis or args.vis_html):
        errors = protocol.score(predict, test, run)  # shared between processes, if there are several
        if run.is_main:
            text, content = protocol.report("teacher", errors, test, args)
            print(text, flush=True)
            write_json(folder / "results.json", content)
    if args.vis and run.is_main:
        files = pictures.draw_sequences(predict, test, args, folder, "teacher")
        print("pictures:", ", ".join(map(str, files)))
    if args.vis_html and run.is_main:
        print("page:", pictures.write_page(predict, test, args, "teacher"))
    if run.is_main and (args.evaluate or args.vis or not args.vis_html):
        print(f"results in {folder}")


if __name__ == "__main__":
    run_script(main)

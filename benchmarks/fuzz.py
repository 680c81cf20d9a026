"""Random damage to files of every kind, for as long as one likes: python benchmarks/fuzz.py [--minutes 10] [--seed 0]

Reads damaged files with every reader, and prints the distinct faults: whatever is raised besides an InputError of one
plain line. The files of the faults stay in the folder that is printed. Status 1 if there is a fault.
"""

import logging
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.run.options import Parser, number  # noqa: E402
from common.run.script import run_script  # noqa: E402
from tests import hostile  # noqa: E402

OPTIONS = (
    ("--minutes", number(float, 0), 10.0, "of this process's time on a core"),
    ("--seed", number(int, 0), 0, "of the damage"),
)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_table("Fuzzing", OPTIONS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="fuzz_"))
    count, seen, end = 0, set(), time.process_time() + 60 * args.minutes
    for found in hostile.findings(folder, args.seed):
        count += 1
        if found:
            kind, path, error = found
            place = traceback.extract_tb(error.__traceback__)[-1]
            if (kind, type(error), place.lineno) not in seen:
                seen.add((kind, type(error), place.lineno))
                kept = shutil.copy(path, folder / f"fault_{len(seen)}_{path.name}")
                print(
                    f"{kind}: {type(error).__name__}: {error!s:.100} in {place.filename}:{place.lineno}; {kept}",
                    flush=True,
                )
        if time.process_time() > end:
            break
    print(f"{count:,} files, {len(seen)} distinct faults, {hostile.peak_bytes() / 1e9:.2f} GB at most; {folder}")
    sys.exit(1 if seen else 0)


if __name__ == "__main__":
    run_script(main)

#!/usr/bin/env bash
# Run every benchmark, one after the other, on the GPU where there is one, else on the CPU.
#
#   benchmarks/run_all.sh [LOG]        default: benchmarks.log
#
# MINUTES=10     of training for each method of compare_methods.py (default 3)
# REAL_DATA=DIR  folder with data_3d_cmu.npz and its 2D files; without it synthetic_worth.py, which needs one, is left out
# PYTHON=FILE    the interpreter (default: python)
#
# One that fails does not end the others; the status is then 1.
set -euo pipefail

python=${PYTHON:-python}
log=$(realpath -m -- "${1:-benchmarks.log}")
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

failed=()

run() {
    printf '\n== python %s\n' "$*"
    "$python" "$@" || failed+=("$1")
}

everything() {
    "$python" benchmarks/machine.py
    git log -1 --format='commit %h %s' 2>/dev/null || true
    local device=cpu few=1 many=1 # steps a round: a GPU is so fast that one step is too short to time
    if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
        device=cuda few=20 many=50
    fi
    run benchmarks/train_step.py --methods teacher student mlp videopose gcn stgcn --rounds 4 --steps "$many"
    run benchmarks/train_step.py --methods gan_lifter --rounds 2 --steps "$few"
    run benchmarks/virtual_cameras.py
    run benchmarks/loading.py
    run benchmarks/poseaug_epoch.py
    run benchmarks/hourglass_step.py --steps "$few"
    run benchmarks/encoder_decoder_step.py --rounds 4 --steps "$few"
    run benchmarks/image_pipeline.py
    run benchmarks/metrics.py --device "$device"
    run benchmarks/draw.py
    run benchmarks/fuzz.py
    run benchmarks/video.py
    run benchmarks/mediapipe_pose.py
    run benchmarks/real_people.py
    if [[ -n ${REAL_DATA:-} ]]; then
        run benchmarks/synthetic_worth.py --data-dir data --real "$REAL_DATA" --epochs 10 --every 4 --batch 128
        run benchmarks/motion.py --data-dir "$REAL_DATA"
    else
        printf '\n== benchmarks/synthetic_worth.py and motion.py are left out: REAL_DATA=DIR names no folder of real motion\n'
    fi
    run benchmarks/compare_methods.py --minutes "${MINUTES:-3}"
    if ((${#failed[@]})); then
        printf '\nfailed: %s\n' "${failed[*]}"
        return 1
    fi
}

everything 2>&1 | tee -- "$log"

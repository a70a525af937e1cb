#!/usr/bin/env bash
# Trains the next bundled model, stage after stage. The same command continues an interrupted run.
#
#   benchmarks/train_bundled.sh DATA RUN
#
# DATA holds train/ and validation/ (docs/tiny-model.md says which photographs), RUN will hold the run.
# INIT names a tokenizer file to start from: same bits and widths as bundled.json, as many residual blocks or fewer.
# Without it the tokenizer starts from nothing and takes 10,000 steps instead of 3,000.
# PYTHON, THREADS and DEVICE change the interpreter (python), the CPU threads (1) and the device (cpu).
# An interrupted stage saves itself on SIGINT and SIGTERM, and every 50 steps in any case.
set -euo pipefail

data=${1:?usage: benchmarks/train_bundled.sh DATA RUN}
run=${2:?usage: benchmarks/train_bundled.sh DATA RUN}
here=$(cd "$(dirname "$0")" && pwd)
threads=${THREADS:-1}
export OMP_NUM_THREADS=$threads
# An allocator that keeps its memory: steps become a tenth faster.
for library in /usr/lib/*/libjemalloc.so.2; do
    [ -e "$library" ] && export LD_PRELOAD=$library
done

stage() {
    "${PYTHON:-python}" -m varestorer_core.cli distill "$@" --out "$run" --config "$here/bundled.json" \
        --data "$data/train" --validation "$data/validation" --validation-pictures 16 \
        --squares 24 --pictures 600 --workers 0 --threads "$threads" --device "${DEVICE:-cpu}" \
        --seed 0 --batch 8 --save-every 50 --evaluate-every 500 --resume
}

# Twice as much of the damage that matters as of the hard case.
mix=mild@2,social@2,mild@2,social@2,x4@4

if [ -n "${INIT:-}" ]; then
    # Trained weights, but new blocks, another number of scales and an optimiser without history: half the rate.
    stage tokenizer --init "$INIT" --steps 3000 --learning-rate 4e-4 --warmup 200 --ema 0.998
else
    stage tokenizer --steps 10000 --learning-rate 8e-4 --warmup 500 --ema 0.998
fi
stage encoder --steps 5000 --learning-rate 6e-4 --ema 0.998 --degradation "$mix"
stage decoder --steps 1500 --learning-rate 4e-4 --ema 0.998 --degradation "$mix"
stage teacher --steps 2000 --learning-rate 1e-3 --ema 0.99
stage student --steps 3000 --learning-rate 5e-4 --ema 0.998 --degradation "$mix"
stage student_decoder --steps 1000 --learning-rate 3e-4 --ema 0.998 --degradation "$mix"
stage crisp_decoder --steps 1500 --learning-rate 2e-4 --ema 0.995 --degradation "$mix"
stage export --note "Trained by benchmarks/train_bundled.sh on photographs; see docs/tiny-model.md"

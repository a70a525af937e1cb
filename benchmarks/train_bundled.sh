#!/usr/bin/env bash
# Trains the next bundled model, stage after stage. The same command continues an interrupted run.
#
#   benchmarks/train_bundled.sh DATA RUN
#
# DATA holds train/ and validation/ (docs/tiny-model.md says which photographs), RUN will hold the run.
# INIT names a tokenizer file to start from: same bits and widths as bundled.json, as many residual blocks or fewer.
# Without it the tokenizer starts from nothing and takes 10,000 steps instead of 3,000.
# PYTHON and THREADS change the interpreter (python) and the CPU threads (1).
# DEVICE=cuda trains on a GPU, in large batches. WORKERS (12) draw its pictures.
# An interrupted stage saves itself on SIGINT and SIGTERM, and every 50 (GPU: 500) steps in any case.
set -euo pipefail

data=${1:?usage: benchmarks/train_bundled.sh DATA RUN}
run=${2:?usage: benchmarks/train_bundled.sh DATA RUN}
here=$(cd "$(dirname "$0")" && pwd)
device=${DEVICE:-cpu}
threads=${THREADS:-1}
export OMP_NUM_THREADS=$threads

# Twice as much of the damage that matters as of the hard case.
mix=mild@2,social@2,mild@2,social@2,x4@4
note="Trained by benchmarks/train_bundled.sh on photographs; see docs/tiny-model.md"

distill() {
    "${PYTHON:-python}" -m varestorer_core.cli distill "$@" --out "$run" --config "$here/bundled.json" \
        --threads "$threads" --device "$device"
}

train() {
    distill "$@" --data "$data/train" --validation "$data/validation" --pictures 600 --seed 0 --resume
}

on_cpu() {
    # An allocator that keeps its memory: steps become a tenth faster.
    for library in /usr/lib/*/libjemalloc.so.2; do
        [ -e "$library" ] && export LD_PRELOAD=$library
    done
    stage() {
        train "$@" --squares 24 --workers 0 --validation-pictures 16 --batch 8 --save-every 50 --evaluate-every 500
    }
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
    distill export --note "$note"
}

on_gpu() {
    stage() {
        train "$@" --squares 60 --workers "${WORKERS:-12}" --validation-pictures 44 --warmup 100 \
            --save-every 500 --evaluate-every 300
    }
    local faithful=(--batch 128 --degradation "$mix" --edges 0.3)
    if [ -n "${INIT:-}" ]; then
        stage tokenizer --init "$INIT" --batch 128 --steps 1500 --learning-rate 6e-4 --ema 0.995
    else
        stage tokenizer --batch 128 --steps 4000 --learning-rate 8e-4 --ema 0.998
    fi
    stage encoder "${faithful[@]}" --steps 1150 --learning-rate 1e-3 --ema 0.995
    stage decoder "${faithful[@]}" --steps 320 --learning-rate 5e-4 --ema 0.99
    stage teacher --batch 64 --steps 1300 --learning-rate 1.5e-3 --ema 0.99
    stage student --batch 128 --degradation "$mix" --steps 1060 --learning-rate 8e-4 --ema 0.997 \
        --train-decoder --mse 8 --perceptual-weight 0.3 --kl 0.05
    stage student_decoder "${faithful[@]}" --steps 600 --learning-rate 4e-4 --ema 0.995
    stage crisp_decoder --batch 128 --degradation "$mix" --steps 600 --learning-rate 2e-4 --ema 0.99 --adversarial 0.07
    distill export --note "$note"
}

if [[ $device == cpu ]]; then on_cpu; else on_gpu; fi

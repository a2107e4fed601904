#!/bin/sh
# One GPU in under eight minutes: do the back ends agree, how fast is a step, how fast is the loader; one table at the end.
#   sh benchmarks/gpu.sh SHARDS [OUT]      SHARDS: a folder with shards.json, vocab.json and the shards
# Needs torch, lightning, numpy, pandas and pyarrow alone. PYTHON names the interpreter. On a machine without a GPU it
# runs the same on the CPU with a small model (QUICK=1 does so with the least work), which proves the script, not the GPU.
set -eu
shards=$1
out=${2:-${OUT:-gpu-benchmark}}
python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$here/../src"
mkdir -p "$out"
cuda=$("$python" -c 'import torch; print(int(torch.cuda.is_available()))')

echo "== correctness"
"$python" "$here/correctness.py"

train() { # name, then options of train.py
    name=$1
    shift
    echo "== $name"
    "$python" "$here/train.py" --shards "$shards" --json "$@" > "$out/$name.json"
}
if [ "$cuda" = 1 ]; then
    train batches-of-32 --model blood-300k --precision 16 --steps 20 --warmup 5 --layouts padded_longest packed
    train padded-1201 --model blood-300k --precision bf16 --steps 3 --warmup 2
    train tokens-64k --model blood-300k --tokens 65536 --steps 5 --warmup 3 --layouts packed
    train tokens-64k-compiled --model blood-300k --tokens 65536 --steps 5 --warmup 3 --layouts packed --compile ||
        echo "torch.compile failed here: left out"
elif [ "${QUICK:-0}" = 1 ]; then
    train batches-of-8 --batch-size 8 --steps 1 --warmup 1 --layouts padded_longest packed
else
    train batches-of-32 --steps 2 --warmup 1 --layouts padded_longest packed
    train padded-1201 --steps 1 --warmup 1 --long-warmup 0
fi
echo "== loader"
"$python" "$here/loader.py" --json --cells "${LOADER_CELLS:-50000}" --repeats 2 > "$out/loader.json"

echo "== table"
"$python" - "$out" << 'TABLE'
import json, pathlib, sys

out = pathlib.Path(sys.argv[1])
lines = ["| run | layout | device | precision | cells/s | tokens/s | ms a step | peak GB | MFU |", "|" + "---|" * 9]
notes = []
for path in sorted(out.glob("*.json")):
    text = path.read_text()
    if path.stem == "loader" or not text:
        continue
    run = json.loads(text)
    for row in run["rows"]:
        figures = [row[key] for key in ("cells/s", "tokens/s", "ms a step", "peak GB", "MFU")]
        figures = ["-" if x is None else f"{x:,.0f}" if x >= 100 else f"{x:.3g}" for x in figures]
        cells = [path.stem, row["layout"], run["device"], run["precision"], *figures]
        lines.append("| " + " | ".join(cells) + " |")
    ratios = ", ".join(f"{key[9:]}: {value:.1f}" for key, value in run.items() if key.startswith("ratio_vs_"))
    notes.append(f"{path.stem}: ratios {ratios or '-'}; {run['tokens_a_cell']} tokens; peak {run['peak_flops']:.3g} "
                 f"({run['peak_is']}); torch {run['torch']}; {run['batch_size']} cells a step, {run['steps']} steps")
loader = json.loads((out / "loader.json").read_text())
notes.append("loader, cells/s a core: " + ", ".join(
    f"{key} {loader[key]:,.0f}" for key in loader if key.endswith(("per_core", "with_masks"))))
text = "\n".join([*lines, "", *notes, f"FLOPs of a cell of n tokens = 6*N*n + 12*L*d*n^2"])
(out / "table.md").write_text(text + "\n")
print(text)
TABLE

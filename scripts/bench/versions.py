#!/usr/bin/env python3
"""Step time of the debug model with two builds of the program, in interleaved pairs; one JSON object.

    scripts/bench/versions.py --before <clone of main>/build/release/bin/tessera --pairs 10

A round runs `before`, `after` and `before` again, in turns of order, each for --steps steps of which the first is left
out. `ratio` is the median over the rounds of after / before, `spread` the median of how far the two runs of `before`
differ from each other: `after` is no slower when ratio - 1 <= spread.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from train import ROOT, TESSERA, write_documents  # noqa: E402


def step_seconds(program, data, folder, args):
    """The mean time of a step, without the first."""
    command = [program, "train", "--config", os.path.join(ROOT, "configs", "llama3_debug.toml")]
    command += ["--training.dataset=jsonl", f"--training.dataset_path={data}", f"--training.steps={args.steps}"]
    command += [f"--training.local_batch_size={args.batch}", f"--training.seq_len={args.seq}"]
    command += ["--training.global_batch_size=-1", f"--model.attention={args.backend}", f"--job.dump_folder={folder}"]
    environment = os.environ | {"OMP_NUM_THREADS": str(args.threads), "OMP_WAIT_POLICY": "passive"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    return statistics.fmean(record["step_s"] for record in records[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="the program to compare with")
    parser.add_argument("--after", default=TESSERA)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backend", default="flex")
    args = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "documents.jsonl")
        write_documents(data, args.batch * args.seq * (args.steps + 1))
        for i in range(args.pairs):
            programs = [args.before, args.after, args.before]
            order = [1, 0, 2] if i % 2 else [0, 1, 2]
            seconds = {}
            for k in order:
                seconds[k] = step_seconds(programs[k], data, os.path.join(folder, f"{i}_{k}"), args)
            rounds.append([seconds[k] for k in range(3)])
    ratios = [after / before for before, after, _ in rounds]
    spreads = [abs(again / before - 1) for before, _, again in rounds]
    print(json.dumps({"ratio": statistics.median(ratios), "spread": statistics.median(spreads),
                      "ratios": ratios, "spreads": spreads,
                      "step_s": {"before": statistics.median(r[0] for r in rounds),
                                 "after": statistics.median(r[1] for r in rounds)},
                      "options": vars(args)}))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Tokens per second of the debug model, beside a rival's in the same minutes; one JSON object per line.

    scripts/bench/train.py                                          our figures alone
    scripts/bench/train.py --peer "python peers/train_cpu.py"       and a rival's, in turn with ours

The rival is called with --model titan --attention A --batch B --seq T --dtype D --threads N --steps S and prints a JSON
object with tokens_per_second. Ours trains on packed documents with lognormal lengths (median 500). Absolute figures
move with whatever else the machine does; ratios within one run are what counts.

With one thread both programs are timed by processor time, which other programs disturb far less, with more by wall time.
"""
import argparse
import json
import os
import random
import resource
import shlex
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TESSERA = os.path.join(ROOT, "build", "release", "bin", "tessera")
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


def write_documents(path, num_tokens):
    """Random letters in documents whose lengths are lognormal with median 500."""
    rng = random.Random(6)
    with open(path, "w", encoding="ascii") as file:
        while num_tokens > 0:
            length = max(2, round(rng.lognormvariate(6.2146, 1.0)))
            file.write(json.dumps({"text": "".join(rng.choices("etaoin shrdlu", k=length))}) + "\n")
            num_tokens -= length


def train(case, backend, steps, folder):
    """Runs our trainer and returns its metrics and the processor seconds of the whole process."""
    batch, seq, dtype, threads = case
    os.makedirs(folder)
    data = os.path.join(folder, "documents.jsonl")
    write_documents(data, batch * seq * (steps + 1))
    command = [TESSERA, "train", "--config", os.path.join(ROOT, "configs", "llama3_debug.toml")]
    command += ["--training.dataset=jsonl", f"--training.dataset_path={data}", f"--training.steps={steps}"]
    command += [f"--training.local_batch_size={batch}", "--training.global_batch_size=-1", f"--training.seq_len={seq}"]
    command += [f"--training.mixed_precision_param={DTYPES[dtype]}", f"--job.dump_folder={folder}/run"]
    command += [f"--model.attention={backend}"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(f"{folder}/run/metrics.jsonl", encoding="utf-8") as file:
        metrics = [json.loads(line) for line in file]
    return metrics, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run_tessera(case, backend, steps, folder):
    """Tokens per second of every step but the first; with one thread the mean of these by processor time."""
    batch, seq, _, threads = case
    metrics, seconds = train(case, backend, steps + 1, f"{folder}/long")
    if threads > 1:
        return [record["tps"] for record in metrics[1:]]
    _, start_seconds = train(case, backend, 1, f"{folder}/short")
    return [batch * seq * steps / (seconds - start_seconds)]


def run_peer(command, attention, case, steps):
    """The rival's best tokens per second in one process."""
    batch, seq, dtype, threads = case
    command = shlex.split(command) + ["--model", "titan", "--attention", attention, "--steps", str(steps)]
    command += ["--batch", str(batch), "--seq", str(seq), "--dtype", dtype, "--threads", str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])["tokens_per_second"]


def measure(case, args):
    """One record: best of several interleaved rounds for each program."""
    batch, seq, dtype, threads = case
    ours, peers = [], {name: [] for name in args.peer_attention.split(",")} if args.peer else {}
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            ours += run_tessera(case, args.backend, args.steps, folder)
        for name, results in peers.items():
            results.append(run_peer(args.peer, name, case, args.steps))
    record = {"name": "train_step", "backend": args.backend, "shape": [batch, seq], "dtype": dtype, "threads": threads}
    record["tokens_per_second"] = round(max(ours))
    record["tokens_per_second_median"] = round(sorted(ours)[len(ours) // 2])
    for name, results in peers.items():
        record[f"peer_{name}"] = max(results)
        record[f"ratio_to_{name}"] = round(max(ours) / max(results), 3)
    return record


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--backend", default="sdpa", help="our attention backend")
    parser.add_argument("--shapes", default="1x2048,8x512", help="batch x sequence, comma separated")
    parser.add_argument("--dtypes", default="fp32,bf16")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--steps", type=int, default=4, help="measured steps a process, after the first")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each program, in turn")
    parser.add_argument("--peer", help="command of the rival")
    parser.add_argument("--peer-attention", default="dense,docloop", help="rival's variants, comma separated")
    args = parser.parse_args()
    if not os.path.exists(TESSERA):
        sys.exit(f"{TESSERA} is missing: run scripts/test.sh or scripts/train.sh first")
    for shape in args.shapes.split(","):
        batch, seq = map(int, shape.split("x"))
        for dtype in args.dtypes.split(","):
            for threads in map(int, args.threads.split(",")):
                print(json.dumps(measure((batch, seq, dtype, threads), args)), flush=True)


if __name__ == "__main__":
    main()

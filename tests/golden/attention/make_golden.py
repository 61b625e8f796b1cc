"""Cuts the oracle files of area 1 (block masks) and 2 (attention) down to what tests/attention reads.

    python3 make_golden.py /path/to/oracles .

Plain Python, no packages. Attention cases are copied whole; block mask cases are those whose rule the leaves causal,
document, full and none can say.
"""
import json
import shutil
import struct
import sys
from pathlib import Path

LEAVES = {"causal", "document", "full", "none", "and", "or", "not"}
TABLES = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices", "mask")


def read_safetensors(path):
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    header.pop("__metadata__", None)
    return {name: (entry, raw[8 + size :][slice(*entry["data_offsets"])]) for name, entry in header.items()}


def write_safetensors(path, tensors):
    header, blob = {}, b""
    for name, (entry, data) in tensors.items():
        header[name] = {**entry, "data_offsets": [len(blob), len(blob) + len(data)]}
        blob += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + blob)


def expressible(rule):
    parts = rule.get("args", []) + ([rule["arg"]] if "arg" in rule else [])
    return rule["op"] in LEAVES and not rule.get("q_offset") and all(map(expressible, parts))


def subset(source, target, area, keep):
    document = json.loads((source / f"{area}.json").read_text())
    document["cases"] = [case for case in document["cases"] if keep(case)]
    names = {f"{case['name']}/{table}" for case in document["cases"] for table in TABLES}
    tensors = {n: t for n, t in read_safetensors(source / f"{area}.safetensors").items() if n in names}
    write_safetensors(target / f"{area}.safetensors", tensors)
    cases = ",\n".join(json.dumps(case) for case in document.pop("cases"))
    (target / f"{area}.json").write_text(json.dumps(document)[:-1] + ', "cases": [\n' + cases + "\n]}\n")


def main():
    source, target = map(Path, sys.argv[1:3])
    for name in ("attention.json", "attention.safetensors"):
        shutil.copyfile(source / name, target / name)
    subset(source, target, "block_masks", lambda case: "mask_mod" in case and expressible(case["mask_mod"]))
    subset(source, target, "titan_masks", lambda case: case["mask"] == "causal AND document")


main()

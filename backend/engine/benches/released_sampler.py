#!/usr/bin/env python3
"""Times the released sampler (Python) so that `var-dd bench --compare-to` can hold ours beside it.

Give it a checkout of the released code. It runs the released functions on a published size with weights invented from
their names, one student step, the finished picture alone, and writes the figures as `var-dd bench --json` does:

    python3 released_sampler.py CHECKOUT --bs 1,4 --json released.json
    var-dd bench --invented d16 --plan "1 step" --frames last --bs 1,4 --dtype bf16 --compare-to released.json

The same as a skilled user would tune it: `--autocast bf16 --channels-last --compile` (compiling takes a minute or two,
in the runs that are not counted). Run both on an idle machine, one after the other. Needs torch and numpy; torchvision and huggingface_hub, which the
released files import and sampling does not use, may be missing.
"""

import argparse
import ast
import contextlib
import json
import math
import os
import sys
import time
import types

import numpy as np
import torch

PATCH_NUMS = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
MASK64 = (1 << 64) - 1
TRAINING_ONLY = ("attn_bias_for_masking", "lvl_1L", "zero_k_bias", "ema_vocab_hit_SV")


def uniform(name, count):
    """Numbers in 0…1 from a name: `engine/src/bundle/formula.rs`."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK64
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) / (1 << 24)


def invented(name, shape):
    """The weight of this name."""
    v = 2 * uniform(name, math.prod(shape)) - 1
    if name.endswith("scale_mul_1H11"):
        v = math.log(4) + v / 10
    elif name == "quantize.embedding.weight":
        pass
    elif name in ("class_emb.weight", "lvl_embed.weight", "n_d_embed.weight", "pos_start", "pos_1LC"):
        v = v / 2
    elif len(shape) >= 2:
        v = v * math.sqrt(3 / math.prod(shape[1:]))
    elif "norm" in name and name.endswith(".weight"):
        v = 1 + v / 10
    else:
        v = v / 10
    return torch.from_numpy(v.astype(np.float32)).reshape(shape)


def stand_in(name, **members):
    """A module in place of one that is not installed."""
    try:
        __import__(name)
    except ImportError:
        parent, _, last = name.rpartition(".")
        if parent:
            stand_in(parent)
        module = types.ModuleType(name)
        vars(module).update(members)
        sys.modules[name] = module
        if parent:
            setattr(sys.modules[parent], last, module)


def load(checkout, depth, device):
    """The released networks, and the function of its script that makes pictures of tokens."""
    folder = os.path.join(checkout, "VAR")
    sys.path.insert(0, folder)
    stand_in("torchvision.utils", save_image=None, make_grid=None)
    stand_in("huggingface_hub", PyTorchModelHubMixin=type("PyTorchModelHubMixin", (), {}))
    from models import build_vae_dd

    vae, student = build_vae_dd(device=device, patch_nums=PATCH_NUMS, depth=depth)
    with torch.no_grad():
        for network in (vae, student):
            for name, tensor in network.state_dict().items():
                if tensor.is_floating_point() and name.rpartition(".")[2] not in TRAINING_ONLY:
                    tensor.copy_(invented(name, tuple(tensor.shape)))
            network.eval()
    # The script cannot be imported without the command line that it reads.
    with open(os.path.join(folder, "sample.py"), encoding="utf-8") as file:
        script = ast.parse(file.read())
    wanted = [node for node in script.body if getattr(node, "name", None) == "transfer_BLCv_to_B3HW"]
    scope = {"torch": torch}
    exec(compile(ast.Module(wanted, []), "sample.py", "exec"), scope)
    return vae, student, scope["transfer_BLCv_to_B3HW"]


def peak_memory_mb(device):
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1000 for line in status if line.startswith("VmHWM"))


def reset_peak_memory(device):
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with open("/proc/self/clear_refs", "w", encoding="ascii") as refs:
        refs.write("5")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", help="directory of the released code")
    parser.add_argument("--depth", type=int, default=16, choices=(16, 20, 24))
    parser.add_argument("--bs", default="1", help="batch sizes, as 1,4")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--autocast", choices=("bf16", "f16"), help="networks in shorter numbers where torch thinks it safe")
    parser.add_argument("--channels-last", action="store_true", help="maps of the VAE with channels last")
    parser.add_argument("--compile", action="store_true", help="torch.compile for the student's blocks and the decoder")
    parser.add_argument("--json", help="file for the figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    if device.type == "cuda":
        # As the released script sets them.
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
    vae, student, pictures_of = load(args.checkout, args.depth, device)
    if args.channels_last:
        vae = vae.to(memory_format=torch.channels_last)
    if args.compile:
        if device.type == "cuda":
            # What a skilled user would allow; the released script does not.
            torch.backends.cudnn.deterministic = False
            torch.backends.cudnn.benchmark = True
        vae.decoder = torch.compile(vae.decoder)
        student.blocks = torch.nn.ModuleList([torch.compile(block) for block in student.blocks])
    short = {"bf16": torch.bfloat16, "f16": torch.float16}.get(args.autocast)
    numbers = torch.autocast(device.type, dtype=short) if short else contextlib.nullcontext()
    split = 5 if args.depth == 16 else 4

    def now():
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() * 1e3

    rows = []
    for batch in (int(size) for size in args.bs.split(",")):
        noise = torch.randn(batch, student.L - 1, student.Cvae, device=device)
        labels = torch.arange(batch, device=device)
        at = torch.zeros(batch)
        reset_peak_memory(device)
        times = []
        for run in range(args.warm_up + args.runs):
            with torch.no_grad(), numbers:
                began = now()
                tokens = student.perturb_data(noise, at, noise)
                vectors, logits = student.final_predict(labels, tokens, at)
                tokens = student.get_final_sequence(vectors.float(), logits.float(), split)
                drawn = now()
                pictures_of(tokens, student, vae).float().mul(255).add_(0.5).clamp_(0, 255).byte().cpu()
                ended = now()
            if run >= args.warm_up:
                times.append((ended - began, drawn - began, ended - drawn))
        total, transformer, decode = (sorted(column) for column in zip(*times))
        middle = len(times) // 2
        row = {
            "plan": "1 step",
            "batch": batch,
            "frames": "last",
            "first_frame_ms": total[middle],
            "last_frame_ms": total[middle],
            "last_frame_p95_ms": total[-1],
            "transformer_ms": transformer[middle],
            "decode_ms": decode[middle],
            "encode_ms": 0.0,
            "pictures_per_s": batch / total[middle] * 1e3,
            "gflop": 0.0,
            "share_of_matrix_rate": 0.0,
            "peak_memory_mb": peak_memory_mb(device),
        }
        rows.append(row)
        print(
            f"batch {batch}: {row['last_frame_ms']:.1f} ms, transformer {row['transformer_ms']:.1f},"
            f" decoder {row['decode_ms']:.1f}; {row['peak_memory_mb']:.0f} MB",
            flush=True,
        )
    report = {
        "version": "released, tuned" if short or args.channels_last or args.compile else "released",
        "model": f"d{args.depth}",
        "device": str(device),
        "dtype": args.autocast or "f32",
        "threads": torch.get_num_threads(),
        "matrix_gflop_per_s": 0.0,
        "rows": rows,
    }
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)


if __name__ == "__main__":
    main()

"""GPT-2 small, 124 million weights, trained step by step with a hash of every bit.

    python -m conformance.training gpt124m --steps 2             # emulated, here: minutes a step
    python -m conformance.training gpt124m --steps 20 --native   # on an H100 or H200
    python -m conformance.training gpt124m --steps 1 --seed 1    # other weights and batches

The model is `gpt2` of `ps.list_models()` with GPT-2's vocabulary, filled up to 50,304. It reads the
words of `replay/text.txt`, one sequence a step. Products are `h100:bf16`, weights and AdamW's
buffers are float32. Prints the seconds of compilation, and for each step the hash of all state,
whether it is the stored one, loss, seconds and the most memory so far; exit status 1 if a hash is
not the stored one. `--record FOLDER` writes a file of hashes as those in `replay/gpt124m`.
"""

import argparse
import re
import resource
import time
from typing import Any

from conformance import training

VOCABULARY = 50_304
"""GPT-2's 50,257 tokens, filled up to a multiple of 128."""
MODEL: dict[str, Any] = {
    "policy": "h100_bf16",
    "model": "gpt2",
    "optimizer": "adamw",
    "learning_rate": 0.0003,
    "batch_size": 1,
}
"""Fields of `TrainConfig`."""
FOLDER = training.FOLDER / "gpt124m"


def file_name(args: argparse.Namespace) -> str:
    """Return the name of the file of hashes."""
    return f"seed{args.seed}-sequence{args.sequence}.json"


def replay(args: argparse.Namespace) -> bool:
    """Train, and print a line for each step; True if none differs from what is stored."""
    import jax

    import precsim as ps

    backend = args.backend
    config = ps.TrainConfig(steps=args.steps, seed=args.seed, backend=backend, **MODEL)
    sequences = tokens((training.FOLDER / "text.txt").read_text(encoding="utf-8"), args.sequence)
    data = sequences[:, :-1], sequences[:, 1:]
    run = ps.replay.prepare_run(config, data=data, classes=VOCABULARY, is_guarded=False)
    state, batch = run.state, run.batch(0)
    weights = sum(w.size for w in jax.tree.leaves(state.params))
    start = time.perf_counter()
    step = jax.jit(run.step, donate_argnums=0).lower(state, *batch).compile()
    compilation = time.perf_counter() - start
    print(
        f"gpt124m {backend}, seed {args.seed}: {weights:,} weights, sequence {args.sequence}, on "
        f"{jax.devices()[0].device_kind}, compiled in {compilation:.0f} s, a step needs "
        f"{needed_memory(step):.1f} GiB",
        flush=True,
    )
    file = file_name(args)
    stored = training.stored_hashes(FOLDER / file)
    hashes = {0: ps.replay.hash_state(state)}
    is_same = told(0, hashes[0], stored.get(0), "")
    for k in range(args.steps):
        batch = run.batch(k)
        start = time.perf_counter()
        state, metrics = step(state, *batch)
        loss = float(metrics.loss)
        seconds = time.perf_counter() - start
        if int(metrics.untrusted):
            raise ValueError(f"step {k + 1} multiplies infinities or NaN; its bits are not stated")
        del metrics
        hashes[k + 1] = ps.replay.hash_state(state)
        said = f", loss {loss:.4f}, {seconds:.2f} s, peak memory {most_memory():.1f} GiB"
        is_same &= told(k + 1, hashes[k + 1], stored.get(k + 1), said)
    if args.record is not None:
        about = {"backend": backend, "sequence": args.sequence, "seed": args.seed}
        training.record(args.record / file, str(config.policy), hashes, about)
    return is_same


def told(step: int, ours: dict[str, str], theirs: dict[str, str] | None, more: str) -> bool:
    """Print a step's line; False if its hash differs from the stored one."""
    verdict = training.compared(ours, theirs)
    print(f"step {step:3} {ours[''][:16]} {verdict}{more}", flush=True)
    return not verdict.startswith("differs")


def tokens(text: str, length: int) -> Any:
    """Return sequences (n, length + 1) of a text's words and marks, numbered as they first come."""
    import numpy as np

    words = re.findall(r"\w+|[^\w\s]", text)
    number = {word: n for n, word in enumerate(dict.fromkeys(words))}
    count = len(words) // (length + 1)
    if length < 1 or count < 1:
        raise ValueError(f"sequence is {length}; allowed are 1 to {len(words) - 1} tokens")
    codes = np.array([number[word] for word in words[: count * (length + 1)]], np.int32)
    return codes.reshape(count, length + 1)


def needed_memory(compiled: Any) -> float:
    """Return the GiB that a compiled function needs for all that it takes, computes and returns."""
    found = compiled.memory_analysis()
    kinds = ("argument", "output", "temp")
    total = sum(getattr(found, f"{kind}_size_in_bytes") for kind in kinds)
    return float(total - found.alias_size_in_bytes) / 2**30


def most_memory() -> float:
    """Return the most memory so far, in GiB: of the device, or of this process on a CPU."""
    import jax

    of_device = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return float(of_device or own) / 2**30

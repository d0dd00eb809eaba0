"""Train on one and on several simulated devices; print the hashes of each as JSON.

python several_devices.py CASE DEVICES...
"""

import json
import sys
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

import precsim as ps

STEPS = 3


def own_model() -> dict[str, Any]:
    """A small network of one's own, whose numbers come from integers."""
    rng = np.random.default_rng(5)

    def draw(*shape: int) -> Any:
        return rng.integers(-9, 10, shape).astype(np.float32) / 16

    weights = {"v": draw(6, 32), "w": draw(32, 16), "count": np.int32(3)}

    def apply(weights: Any, x: Any) -> Any:
        return jnp.maximum(x @ weights["v"], 0) @ weights["w"]

    x = draw(64, 6)
    model = weights, apply
    return {"model": model, "data": (x, draw(64, 16)), "optimizer": optax.sgd(0.0625)}


BUILT_IN = {"model": "mlp", "batch_size": 16}
OWN = {"batch_size": 16}
CASES: dict[str, dict[str, Any]] = {
    "tensor core": {"policy": "h100_bf16", "shards": 4, **BUILT_IN},
    "scaled fp8": {"policy": "fp8_current,fn=portable", "shards": 4, **BUILT_IN},
    "stochastic": {"policy": "bf16_sr,fn=portable", "shards": 8, "accumulate": 2, **BUILT_IN},
    "feedback": {"policy": "bf16", "shards": 4, "all_reduce": "ring:bf16:feedback", **OWN},
    "delayed scales": {"policy": "fp8_delayed", "shards": 4, "all_reduce": "tree:fp16", **OWN},
    "one shard": {"policy": "bf16", "shards": 1, **OWN},
    "halving": {"policy": "fp16_mixed", "shards": 4, "all_reduce": "halving", **OWN},
}


def main(case: str, *devices: str) -> None:
    """Print {devices: hashes of all state after each step}."""
    fields = CASES[case]
    rest = {name: value for name, value in fields.items() if name != "policy"}
    policy = ps.Policy.parse(fields["policy"])
    config = ps.TrainConfig(policy=policy, steps=STEPS, optimizer="momentum", **rest)
    own = {} if "model" in fields else own_model()
    found: dict[str, list[str]] = {}
    for each in devices:
        hashes: list[str] = []

        def on_state(step: int, state: Any, hashes: list[str] = hashes) -> None:
            if step == 0:
                hashes.clear()
            hashes.append(ps.replay.hash_state(state)[""])

        result = ps.train(config, devices=each, on_state=on_state, **own)
        found[each] = [*hashes, float(result.test_score).hex()]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

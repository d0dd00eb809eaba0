"""The public names of precsim: those on top, and those of the themes."""

import inspect

import precsim


def public_objects() -> dict[str, object]:
    """Map each public name, as it follows ``precsim.``, to its object; each object once."""
    top = {name: getattr(precsim, name) for name in precsim.__all__}
    themes = {name: value for name, value in top.items() if inspect.ismodule(value)}
    found = {name: value for name, value in top.items() if name not in themes}
    for theme, module in themes.items():
        further = {n: v for n, v in vars(module).items() if n[0] != "_" and n not in top}
        found |= {f"{theme}.{name}": value for name, value in further.items()}
    return found


def last_parts() -> set[str]:
    """Return the public names without their themes."""
    return {name.rpartition(".")[2] for name in public_objects()}


NOT_OF_ARRAYS = {
    # They take codes and scales, which `quantize` made, or bytes.
    "dequantize", "unpack_codes",
    # Python numbers, names, formats, records.
    "compute_exact", "decode_exact", "encode_exact", "fused_dot_exact", "round_exact", "ulp_exact",
    "gamma", "probabilistic_gamma", "order_bound",
    "get_format", "list_formats", "register_format", "resolve_backend", "which_kernel", "find_schedule", "identify",
    # Two arrays, one the rounding of the other; statistics; trees of parameters, functions, runs.
    "count_events", "predict", "explain", "compare_dumps", "audit_loss_scale", "track_drift", "analyze", "analyzer",
    "analyze_steps", "share_map", "walk",
    "apply_updates", "hash_state", "value_and_grad", "find_unportable", "find_divergence", "bisect_runs",
    "save_checkpoint", "load_checkpoint", "compress", "prune", "fix_scales",
    "prepare_run", "list_machines", "list_models", "list_policies", "list_tasks", "train", "summarise", "autocast", "coverage", "emulate", "measure_gain", "register_rule", "strict",
    "significant_digits", "fragile_parts", "tolerance", "running_bound", "cost", "assign_formats",
    # Optimizers, their states, pictures.
    *vars(precsim.optax), *vars(precsim.plots), *vars(precsim.figures),
}  # fmt: skip
"""Public functions that no array of numbers goes into, or none that a dtype could change."""

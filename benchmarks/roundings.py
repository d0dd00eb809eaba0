"""Cases of `ps.round_to`: every format, mode, carrier; NumPy, random bits, fixed point, a GPU."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import precsim as ps
from benchmarks import inputs, limits, peers, report
from benchmarks.case import Case, Contender, Goal, Setting, SkipError, against_exact

MODES = ("rna", "rnz", "rno", "rnp", "rnn", "rtz", "raz", "rtp", "rtn", "rto")
OPTIONS = ("saturate", "flush_after_rounding", "nearest_of_zero_and_min")
QUICK_FORMATS = ("fp16", "bf16", "e4m3")

JIT, DONATED, EAGER = "jit", "jit donated", "eager"
WIDE, WIDE_DONATED = "jit, 512 bits", "jit donated, 512 bits"
"""Compiled with vectors of 512 bits, which XLA does not choose by itself."""


def cases() -> Iterator[Case]:
    """Yield them in the order of the table."""
    floats = [name for name in ps.list_formats(kind="float") if name not in ("fp32", "fp64")]
    for name in floats:
        yield Case(
            name=f"nearest/{name}",
            build=partial(nearest, name),
            goals=(
                Goal(measured=JIT, against=limits.COPY, at_most=1.3),
                Goal(measured=JIT, against=limits.NEGATE),
                Goal(measured=DONATED, against=limits.NEGATE_DONATED),
                Goal(measured=JIT, against=limits.C_LOOP),
                Goal(measured=EAGER, against=JIT),
                Goal(measured=WIDE, against=limits.COPY),
            ),
            size=1_000_000,
            quick_size=1_000_000 if name in QUICK_FORMATS else None,
        )
    for name in QUICK_FORMATS:
        yield Case(
            name=f"large/{name}",
            build=partial(nearest, name),
            goals=(
                Goal(measured=DONATED, against=limits.COPY, at_most=0.7),
                Goal(measured=JIT, against=limits.NEGATE, at_most=1.2),
                Goal(measured=WIDE_DONATED, against=limits.COPY),
            ),
            size=30_000_000,
            quick_size=4_000_000 if name == "e4m3" else None,
        )
    for dtype in ("float32", "float64"):
        for name in ("e4m3", "bf16"):
            yield Case(
                name=f"modes/{name}/{dtype}",
                build=partial(modes, name, dtype),
                goals=tuple(
                    Goal(measured=option, against="rne", at_most=2.0) for option in MODES + OPTIONS
                ),
                size=1_000_000,
                quick_size=1_000_000 if name == "e4m3" else None,
            )
        yield Case(
            name=f"formats/{dtype}",
            build=partial(formats, floats, dtype),
            goals=tuple(
                Goal(measured=name, against="bf16", at_most=2.0)
                for name in floats
                if name != "bf16"
            ),
            size=1_000_000,
        )
    for size, quick_size in ((1_000_000, 1_000_000), (30_000_000, None)):
        for dtype in ("float32", "float64"):
            yield Case(
                name=f"numpy/e4m3/{dtype}/{size:.0e}".replace("+0", ""),
                build=partial(numpy_arrays, "e4m3", dtype),
                goals=(
                    Goal(measured="NumPy", against=JIT, at_most=2.0),
                    Goal(measured="NumPy", against=limits.COPY),
                ),
                size=size,
                quick_size=quick_size,
            )
    for name in ("bf16:sr", "e4m3:sr", "e4m3:sr8"):
        yield Case(
            name=f"stochastic/{name}",
            build=partial(stochastic, name),
            goals=(
                Goal(measured="threefry, rounded", against="threefry bits", at_most=1.2),
                Goal(measured="bits given", against="nearest"),
            ),
            size=1_000_000,
            quick_size=1_000_000 if name == "e4m3:sr" else None,
        )
    yield Case(
        name="fixed/q7.8",
        build=partial(fixed_point, "q7.8"),
        goals=(
            Goal(measured="saturate", against=limits.COPY, at_most=1.2),
            Goal(measured="saturate", against=limits.NEGATE),
            Goal(measured="wrap", against="saturate"),
        ),
        size=1_000_000,
        quick_size=1_000_000,
    )
    for name in (*QUICK_FORMATS, "e4m3:rtz"):
        yield Case(
            name=f"gpu/{name}",
            build=partial(on_gpu, name),
            goals=(
                # At least 80 % of the bandwidth of a copy on the device.
                Goal(measured=DONATED, against=limits.NEGATE_DONATED, at_most=1.25),
                Goal(measured=JIT, against=limits.NEGATE, at_most=1.25),
            ),
            size=300_000_000,
            quick_size=30_000_000 if name == "e4m3" else None,
            platform="",
        )


def nearest(name: str, setting: Setting) -> dict[str, Contender | str]:
    """Round float32 to nearest: jitted, in place, called eagerly; copies, C and peers beside it."""
    import jax.numpy as jnp

    fmt = ps.get_format(name)
    assert isinstance(fmt, ps.FloatFormat)
    x = inputs.make_input(setting.size)
    there = jnp.asarray(x)
    check = partial(_check, x=x, spec=name)
    found: dict[str, Contender | str] = {limits.COPY: limits.copy(x), **limits.negations(there)}
    found[JIT] = _jitted(partial(_rounded, spec=name), there, check)
    found[DONATED] = limits.in_place(partial(_rounded, spec=name), there)
    if "AVX-512" in report.processor():
        options = {"compiler_options": {"xla_cpu_prefer_vector_width": "512"}}
        rounded = partial(_rounded, spec=name)
        found[WIDE] = _jitted(rounded, there, check, **options)
        found[WIDE_DONATED] = limits.in_place(rounded, there, **options)
    eager = lambda: ps.round_to(there, name).block_until_ready()
    found[EAGER] = Contender(run=eager, check=check(eager))
    try:
        loop, result = limits.c_loop(x, fmt)
        found[limits.C_LOOP] = Contender(run=loop.run, check=check(lambda: result))
    except SkipError as reason:
        found[limits.C_LOOP] = str(reason)
    if setting.peers:
        for peer, call in peers.nearest(x, fmt):
            found[peer] = call if isinstance(call, str) else _peer(call, check)
    return found


def modes(name: str, dtype: str, setting: Setting) -> dict[str, Contender | str]:
    """Round one format in every mode."""
    with_options = {"rne": name} | {option: f"{name}:{option}" for option in MODES + OPTIONS}
    return dict(_specs(with_options, dtype, setting.size))


def formats(names: list[str], dtype: str, setting: Setting) -> dict[str, Contender | str]:
    """Round to nearest in every format."""
    return dict(_specs({name: name for name in names}, dtype, setting.size))


def _specs(specs: dict[str, str], dtype: str, size: int) -> Iterator[tuple[str, Contender]]:
    x, there = _arrays(size, dtype)
    for label, spec in specs.items():
        check = partial(_check, x=x, spec=spec)
        yield label, _jitted(partial(_rounded, spec=spec), there, check)


def numpy_arrays(name: str, dtype: str, setting: Setting) -> dict[str, Contender | str]:
    """Round NumPy arrays, and JAX arrays of the same numbers."""
    x, there = _arrays(setting.size, dtype)
    check = partial(_check, x=x, spec=name)
    run = lambda: ps.round_to(x, name)
    return {
        limits.COPY: limits.copy(x),
        JIT: _jitted(partial(_rounded, spec=name), there, check),
        "NumPy": Contender(run=run, check=check(run)),
    }


def stochastic(name: str, setting: Setting) -> dict[str, Contender | str]:
    """Round with random bits: given, or drawn by JAX inside the same compiled function."""
    import jax
    import jax.numpy as jnp

    x, there = _arrays(setting.size, "float32")
    key = jax.random.key(inputs.SEED)
    draw = jax.jit(lambda k: jax.random.bits(k, (setting.size,), jnp.uint32))
    bits = draw(key)
    check = partial(_check, x=x, spec=name, random_bits=np.asarray(bits))
    together = jax.jit(lambda v, k: ps.round_to(v, name, random_bits=draw(k)))
    given = jax.jit(lambda v, r: ps.round_to(v, name, random_bits=r))
    run_together = lambda: together(there, key).block_until_ready()
    run_given = lambda: given(there, bits).block_until_ready()
    nearest_name = name.partition(":")[0]
    plain = partial(_check, x=x, spec=nearest_name)
    return {
        "threefry bits": Contender(run=lambda: draw(key).block_until_ready()),
        "threefry, rounded": Contender(run=run_together, check=check(run_together)),
        "bits given": Contender(run=run_given, check=check(run_given)),
        "nearest": _jitted(partial(_rounded, spec=nearest_name), there, plain),
    }


def fixed_point(name: str, setting: Setting) -> dict[str, Contender | str]:
    """Round to fixed point, saturating and wrapping around."""
    x, there = _arrays(setting.size, "float32")
    found: dict[str, Contender | str] = {limits.COPY: limits.copy(x), **limits.negations(there)}
    for overflow in ("saturate", "wrap"):
        spec = f"{name}:{overflow}"
        check = partial(_check, x=x, spec=spec)
        found[overflow] = _jitted(partial(_rounded, spec=spec), there, check)
    return found


def on_gpu(name: str, setting: Setting) -> dict[str, Contender | str]:
    """Round on an accelerator, where the limit is its own memory's bandwidth."""
    import jax
    import jax.numpy as jnp

    if jax.default_backend() == "cpu":
        raise SkipError("JAX finds no accelerator")
    part = inputs.make_input(1_000_000)
    x = np.resize(part, setting.size)
    there = jnp.asarray(x)
    found: dict[str, Contender | str] = {**limits.negations(there)}
    found[JIT] = _jitted(partial(_rounded, spec=name), there, partial(_check, x=x, spec=name))
    found[DONATED] = limits.in_place(partial(_rounded, spec=name), there)
    return found


def _arrays(size: int, dtype: str) -> tuple[np.ndarray, Any]:
    x = inputs.make_input(size, np.dtype(dtype).type)
    return x, inputs.on_device(x)


def _jitted(
    function: Callable[[Any], Any], there: Any, check: Callable[..., Any], **options: Any
) -> Contender:
    import jax

    call = jax.jit(function, **options)
    run = lambda: call(there).block_until_ready()
    return Contender(run=run, check=check(run))


def _rounded(v: Any, *, spec: str) -> Any:
    return ps.round_to(v, spec)


def _peer(call: peers.Call, check: Callable[..., Any]) -> Contender:
    run, as_numpy = call
    return Contender(run=run, check=check(lambda: as_numpy(run())), is_peer=True)


def _check(
    result: Callable[[], Any], *, x: np.ndarray, spec: str, random_bits: np.ndarray | None = None
) -> Any:
    """Compare with the exact roundings of single numbers."""
    parsed = ps.RoundingSpec.parse(spec)

    def exact(k: int) -> float:
        draw = 0 if random_bits is None else int(random_bits[k])
        return ps.oracle.round_exact(float(x[k]), parsed, random_bits=draw).value

    return against_exact(result, inputs.chosen(x.size), exact)

"""Native products with a tensor core's bits: found by trying, refused by name (GPU: test_gpu)."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.core import eval_context  # no public way out of a trace
from jax.sharding import AxisType, PartitionSpec

import precsim as ps
from precsim.products.backends import Specs
from precsim.products.native import finding, tensor_core
from precsim.products.reference import reference_matmul
from precsim.products.specs.fused_block import FLAT, FusedBlock, Schedule, SplitK
from tests.products.conftest import assert_same_bits, normal


def in_numpy(a: Any, b: Any, spec: ps.MatmulSpec) -> Any:
    """A kernel with nothing to compile, and nothing in common with the emulation."""
    return jax.pure_callback(
        lambda a, b: reference_matmul(np.asarray(a), np.asarray(b), None, spec),
        jax.eval_shape(jnp.matmul, a, b),
        a,
        b,
    )


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes this CPU a GPU of a given schedule; None keeps the CPU's dot."""
    tried = finding._try

    def tried_outside(*key: Any) -> Any:
        with eval_context():  # where JAX can call back
            return tried(*key)

    def as_gpu(schedule: Schedule | None) -> None:
        finding._TRIED.clear()
        jax.clear_caches()  # type: ignore[no-untyped-call]
        monkeypatch.setattr(tensor_core, "_device", lambda: SimpleNamespace(platform="gpu"))
        if schedule is not None:

            def chain(a: Any, b: Any, spec: ps.MatmulSpec) -> Any:
                assert isinstance(spec.order, FusedBlock)
                return in_numpy(a, b, replace(spec, order=replace(spec.order, schedule=schedule)))

            monkeypatch.setattr(tensor_core, "one_kernel", chain)
            monkeypatch.setattr(finding, "one_kernel", chain)
            monkeypatch.setattr(finding, "_try", tried_outside)

    yield as_gpu
    finding._TRIED.clear()
    jax.clear_caches()  # type: ignore[no-untyped-call]


def test_native_tensor_core_is_refused_without_a_gpu() -> None:
    ones = np.ones((8, 8), np.float32)
    with pytest.raises(ValueError, match="JAX computes on 'cpu'; tensor cores are on NVIDIA GPUs"):
        ps.matmul(ones, ones, "h100:bf16", backend="native")
    with pytest.raises(ValueError, match="no native kernel computes 'h100:bf16'"):
        ps.kernels.find_schedule("h100:bf16", 8, 8, 8)
    with pytest.raises(TypeError, match="allowed are specs of tensor cores"):
        ps.kernels.find_schedule("bf16_bf16_fp32", 8, 8, 8)
    assert ps.kernels.resolve_backend("h100:bf16", shapes=((8, 8), (8, 8))) == "emulated"


def test_a_device_that_is_there_no_more_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("h100:bf16", None, None, "native")
    with monkeypatch.context() as on_gpu:
        on_gpu.setattr(tensor_core, "_device", lambda: SimpleNamespace(platform="gpu"))
        assert Specs.resolve(*asked).backend == "native"
    with pytest.raises(ValueError, match=r"tensor cores are on NVIDIA GPUs$"):
        Specs.resolve(*asked)


@pytest.mark.long
def test_an_unexplained_kernel_is_never_chosen(pretend: Any) -> None:
    """This CPU's own dot does not add as a tensor core does."""
    pretend(None)
    found = ps.kernels.find_schedule("h100:bf16", 64, 64, 256)
    assert (found.kernel, found.schedule) == ("dot", None)
    assert found.share < 1
    shapes = ((64, 256), (256, 64))
    assert ps.kernels.resolve_backend("h100:bf16", shapes=shapes) == "emulated"
    with pytest.raises(ValueError, match="the dot kernel of 64 x 256 by 256 x 64 is not explained"):
        ps.kernels.resolve_backend("h100:bf16", "native", shapes=shapes)


def test_kernels_that_xla_refuses_are_reported(pretend: Any) -> None:
    """The CPU has no TF32 algorithm: XLA's own words are the kernel's name."""
    pretend(None)
    found = ps.kernels.find_schedule("h100:tf32", 16, 16, 64)
    assert found.kernel.startswith("refused (")
    assert found.schedule is None


@pytest.mark.long
@pytest.mark.parametrize(
    "schedule", [FLAT, pytest.param(SplitK(splits=3, granule=64), marks=pytest.mark.slow)]
)
def test_the_schedule_of_a_kernel_is_found(pretend: Any, schedule: Schedule) -> None:
    pretend(schedule)
    assert ps.kernels.find_schedule("h100:bf16", 16, 24, 1536) == (
        "", schedule, 1.0,
    )  # fmt: skip
    assert ps.kernels.find_schedule("h100:bf16", 8, 8, 1536, batch=(3,)).schedule == schedule


@pytest.mark.long
def test_auto_takes_a_kernel_only_with_the_schedule_asked_for(pretend: Any) -> None:
    pretend(SplitK(splits=2, granule=64))
    shapes = ((16, 2048), (2048, 16))
    assert ps.kernels.resolve_backend("h100:bf16", shapes=shapes) == "emulated"
    assert ps.kernels.resolve_backend("h100:bf16:splitk2x64", shapes=shapes) == "native"
    with pytest.raises(ValueError, match="has schedule 'splitk2x64'"):
        ps.kernels.resolve_backend("h100:bf16", "native", shapes=shapes)
    assert ps.kernels.resolve_backend("h100:bf16", shapes=((0, 4), (4, 4))) == "emulated"


def test_products_that_xla_may_divide_are_not_native(
    pretend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Divided over K, the platform's product has other bits (found on two H100s).

    Inside `shard_map` the shapes are what they are.
    """
    pretend(FLAT)
    monkeypatch.setattr(jax, "local_device_count", lambda: 2)
    shapes = ((16, 64), (64, 16))
    assert ps.kernels.resolve_backend("h100:bf16", shapes=shapes) == "emulated"
    with pytest.raises(ValueError, match=r"among this process's 2 devices .*shard_map"):
        ps.kernels.resolve_backend("h100:bf16", "native", shapes=shapes)
    found = []

    def whole(x: Any) -> Any:
        found.append(ps.kernels.resolve_backend("h100:bf16", shapes=shapes))
        return x

    rows = PartitionSpec("d")  # type: ignore[no-untyped-call]
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))
    jax.shard_map(whole, mesh=mesh, in_specs=rows, out_specs=rows)(jnp.ones(1))
    assert found == ["native"]


@pytest.mark.long
@pytest.mark.parametrize("name", ["h100:bf16", "h100:bf16:promote64->", "h100:e4m3_e5m2->bf16"])
def test_native_products_and_gradients_have_the_specs_bits(pretend: Any, name: str) -> None:
    """With kernels that are one chain, whatever precsim does around them must not change a bit."""
    pretend(FLAT)
    spec = name.removesuffix("->")
    rng = np.random.default_rng(0)
    a, b, g = (normal(rng, None, shape) for shape in ((5, 150), (150, 3), (5, 3)))
    a[0, 0], b[1, 1] = np.nan, np.inf

    def product(a: Any, b: Any) -> Any:
        return ps.matmul(a, b, spec, backend="native")

    y, (da, db) = jax.jit(lambda a, b, g: (product(a, b), jax.vjp(product, a, b)[1](g)))(a, b, g)
    assert_same_bits(y, ps.matmul(a, b, spec, backend="reference"))
    assert_same_bits(da, ps.matmul(g, b.T, spec, backend="reference"))
    assert_same_bits(db, ps.matmul(a.T, g, spec, backend="reference"))


@pytest.mark.long
def test_native_tensor_core_refuses_a_first_value(pretend: Any) -> None:
    """Kernels add it last."""
    pretend(FLAT)
    ones = jnp.ones((8, 8))
    with pytest.raises(ValueError, match="c is given"):
        ps.matmul(ones, ones, "h100:bf16", c=ones, backend="native")
    expected = ps.matmul(ones, ones, "h100:bf16", c=ones, backend="emulated")
    assert_same_bits(ps.matmul(ones, ones, "h100:bf16", c=ones), expected)


def test_auto_on_cpu_arrays_beside_a_gpu_stays_emulated(pretend: Any) -> None:
    """Only XLA knows where a traced array lives, so the choice is made for each platform."""
    pretend(FLAT)
    ones = jnp.ones((8, 16)), jnp.ones((16, 8))
    text = jax.jit(lambda a, b: ps.matmul(a, b, "h100:bf16")).lower(*ones).as_text()
    assert "while" in text  # the emulated loop
    assert "callback" not in text
    native = jax.jit(lambda a, b: ps.matmul(a, b, "h100:bf16", backend="native")).lower(*ones)
    assert "callback" in native.as_text()


@pytest.mark.long
def test_kernels_are_tried_while_a_caller_is_being_traced(pretend: Any) -> None:
    pretend(None)
    ones = jnp.ones((8, 16)), jnp.ones((16, 8))
    jax.jit(lambda a, b: ps.matmul(a, b, "h100:bf16")).lower(*ones)
    (found,) = finding.tried_products().values()
    assert (found.kernel, found.schedule) == ("dot", None)
    assert 0 < found.share < 1

"""Which kernels run the matrix products of a compiled JAX function, and what order they have."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from precsim.formats.arguments import shown


class Kernel(NamedTuple):
    """One matrix product of a compiled program.

    Examples
    --------
    >>> import precsim as ps
    >>> kernel = ps.kernels.Kernel(name="dot", kind="dot", result="f32[8,8]")
    >>> kernel.order is None  # nothing is known of it
    True
    """

    name: str
    """The target or fusion kind in the optimised HLO, for example ``__cublas$lt$matmul``."""
    kind: str
    """One of "cuBLASLt", "cuBLAS", "Triton", "cuDNN", "oneDNN", "dot" and "loop".

    "dot" is the platform's own loop.
    """
    result: str
    """Type and shape of the result, for example ``f32[128,256]``."""

    @property
    def order(self) -> str | None:
        """What is known of the order of its additions; None if nothing is."""
        return _ORDERS.get(self.kind)


_ORDERS = {
    "cuBLASLt": "a chain of tensor-core steps over K, or parts of K: `find_schedule` says which",
    "loop": "float32 multiplications and additions in an order that XLA chose",
}
_TARGETS = {
    r"__cublas\$lt\$matmul": "cuBLASLt",
    r"__cublas\$gemm": "cuBLAS",
    r"__triton|triton_gemm": "Triton",
    r"__cudnn\$": "cuDNN",
    r"__onednn\$": "oneDNN",
}
_RESULT = re.compile(r"= \(?([a-z]\w*\[[\d,]*\])")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")


def which_kernel(fun: Callable[..., Any], *args: Any) -> tuple[Kernel, ...]:
    """Return the kernels that compute the matrix products of a function, as compiled here.

    Parameters
    ----------
    fun : callable
        A function of arrays that JAX can compile.
    *args : array_like
        Example arguments; only shapes and dtypes matter.

    Returns
    -------
    tuple of Kernel
        In the order of the optimised HLO. A product that XLA turned into multiplications and a
        reduction (as it does for one row or column on GPU) shows as a "loop".

    Raises
    ------
    TypeError
        If `fun` is no function.

    Notes
    -----
    `Kernel.order` says what is known of the order of additions. A "cuBLASLt" product of an H100 has
    the bits of ``"h100:..."``, flat or split over K, which `find_schedule` finds; for the other
    kinds nothing is known.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> ones = jnp.ones((8, 8))
    >>> [kernel.kind for kernel in ps.kernels.which_kernel(jnp.dot, ones, ones)]
    ['dot']
    """
    import jax

    if not callable(fun):
        raise TypeError(
            f"fun is {shown(fun)}; allowed are functions of arrays, for example jnp.matmul"
        )
    text = jax.jit(fun).lower(*args).compile().as_text() or ""
    return read_kernels(text)


def read_kernels(hlo: str) -> tuple[Kernel, ...]:
    """Find matrix products in the text of an optimised HLO module."""
    bodies: dict[str, str] = {}
    name = ""
    for line in map(str.strip, hlo.splitlines()):
        if match := _COMPUTATION.match(line):
            name = match[1]
            bodies[name] = ""
        elif name:
            bodies[name] += line + "\n"
    lines = (line for body in bodies.values() for line in body.splitlines())
    return tuple(kernel for line in lines if (kernel := _kernel(line, bodies)) is not None)


def _kernel(line: str, bodies: dict[str, str]) -> Kernel | None:
    """Read one instruction."""
    result = _RESULT.search(line)
    if result is None:
        return None
    if target := re.search(r'custom_call_target="([^"]+)"', line):
        kinds = [kind for pattern, kind in _TARGETS.items() if re.search(pattern, target[1])]
        return Kernel(target[1], kinds[0], result[1]) if kinds else None
    if called := re.search(r" fusion\(.*calls=%?([\w.\-]+)", line):
        body = bodies.get(called[1], "")
        if called[1].startswith("gemm_fusion"):
            return Kernel(called[1], "Triton", result[1])
        if " multiply(" in body and " reduce(" in body:
            return Kernel(called[1], "loop", result[1])
        return None
    # A dot inside a Triton fusion is that fusion's.
    is_dot = " dot(" in line and not any(
        line in body and name.startswith("gemm_fusion") for name, body in bodies.items()
    )
    return Kernel("dot", "dot", result[1]) if is_dot else None

"""GMRES without restarts, in the precision of its right-hand side."""

from collections.abc import Callable
from typing import Any

import numpy as np


def gmres(
    apply: Callable[[Any], Any], b: np.ndarray, *, tolerance: float, most: int
) -> tuple[np.ndarray, int]:
    """Solve apply(x) = b from x = 0, and return x and the number of steps.

    Vectors have the dtype of b and are made orthogonal twice (classical Gram-Schmidt); the small
    least squares problem is solved in float64. It ends where that problem's residual is at most
    `tolerance` times the 2-norm of b, or after `most` steps. A preconditioner is part of `apply`
    and b.

    Examples
    --------
    >>> import numpy as np
    >>> from experiments.gmres import gmres
    >>> a = np.diag([1.0, 2.0, 4.0])
    >>> x, steps = gmres(lambda v: a @ v, np.ones(3), tolerance=1e-12, most=5)
    >>> x.round(6).tolist(), steps
    ([1.0, 0.5, 0.25], 3)
    """
    size = float(np.linalg.norm(b))
    if not size:
        return np.zeros_like(b), 0
    basis = (b / b.dtype.type(size))[None]
    columns = np.zeros((most + 1, most))
    start = np.zeros(most + 1)
    start[0] = size
    for step in range(1, most + 1):
        vector = np.asarray(apply(basis[-1]), b.dtype)
        for _ in range(2):
            shares = basis @ vector
            vector = vector - shares @ basis
            columns[:step, step - 1] += shares
        length = np.linalg.norm(vector)
        columns[step, step - 1] = length
        small, target = columns[: step + 1, :step], start[: step + 1]
        weights = np.linalg.lstsq(small, target, rcond=None)[0]
        if np.linalg.norm(target - small @ weights) <= tolerance * size or not length:
            break
        basis = np.vstack([basis, vector / length])
    return weights.astype(b.dtype) @ basis[: len(weights)], len(weights)

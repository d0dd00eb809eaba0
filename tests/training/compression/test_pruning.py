"""`prune`: which weights stay, by hand and against NumPy's own order."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps

any_prune: Any = ps.prune
RNG = np.random.default_rng(5)
PARAMS: dict[str, Any] = {
    "hidden": {"w": RNG.normal(size=(8, 6)).astype(np.float32), "b": np.ones(6, np.float32)},
    "conv": RNG.normal(size=(3, 3, 2, 4)).astype(np.float32),
    "ids": np.arange(6).reshape(2, 3),
}


def kept(masks: Any) -> dict[str, int]:
    flat = jax.tree_util.tree_leaves_with_path(masks)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): int(x.sum()) for path, x in flat
    }


def test_the_smallest_weights_go_and_the_rest_stays() -> None:
    masks = ps.prune(PARAMS, 0.75)
    assert kept(masks) == {"conv": 18, "hidden/b": 6, "hidden/w": 12, "ids": 6}
    for w, mask in ((PARAMS["hidden"]["w"], masks["hidden"]["w"]), (PARAMS["conv"], masks["conv"])):
        assert mask.dtype == np.bool_
        assert np.abs(w[mask]).min() > np.abs(w[~mask]).max()


def test_one_threshold_for_all_arrays() -> None:
    params = {"small": np.full((2, 2), 0.1, np.float32), "large": np.ones((2, 2), np.float32)}
    assert kept(ps.prune(params, 0.5, together=True)) == {"large": 4, "small": 0}
    columns = ps.prune(params | {"wide": 0.5 * np.ones((50, 2), np.float32)}, 1 / 3, together=True,
                       kind="columns")  # fmt: skip
    assert kept(columns) == {"large": 4, "small": 0, "wide": 100}


@pytest.mark.parametrize(
    ("kind", "axis", "name"), [("rows", 0, "w"), ("columns", 1, "w"), ("channels", 3, "conv")]
)
def test_groups_go_as_a_whole_by_their_norms(kind: str, axis: int, name: str) -> None:
    masks = ps.prune(PARAMS, 0.5, kind=kind)
    w, mask = (PARAMS["hidden"]["w"], masks["hidden"]["w"])
    if name == "conv":
        assert mask.all()  # matrices have no channels
        w, mask = PARAMS["conv"], masks["conv"]
    others = tuple(n for n in range(w.ndim) if n != axis)
    stays = mask.any(axis=others)
    assert (stays == mask.all(axis=others)).all()
    norms = np.sqrt((w.astype(np.float64) ** 2).sum(axis=others))
    assert stays.sum() == norms.size // 2
    assert norms[stays].min() > norms[~stays].max()


def test_rows_of_kernels_are_input_channels() -> None:
    mask = ps.prune(PARAMS, 0.5, kind="rows")["conv"]
    assert (mask.all(axis=(0, 1, 3)) != (~mask).all(axis=(0, 1, 3))).all()


def test_only_what_a_pattern_names() -> None:
    assert kept(ps.prune(PARAMS, 1.0, only="hidden/w")) == {
        "conv": 72, "hidden/b": 6, "hidden/w": 0, "ids": 6,
    }  # fmt: skip


def test_ends_ties_and_narrow_arrays() -> None:
    w = jnp.ones((2, 2), jnp.bfloat16)
    assert ps.prune(w, 0).all()
    assert not ps.prune(w, 1.0).any()
    assert ps.prune(w, 0.5).tolist() == [[False, False], [True, True]]
    assert ps.prune(np.zeros((0, 3), np.float32), 0.5).shape == (0, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: any_prune(PARAMS, 1.5), "sparsity is 1.5; allowed are numbers from 0 to 1"),
        (lambda: any_prune(PARAMS, "half"), "sparsity is 'half'; allowed are numbers"),
        (lambda: any_prune(PARAMS, 0.5, kind="row"), "kind is 'row'.*did you mean 'rows'"),
        (lambda: any_prune(PARAMS, 0.5, only="output"), "only is 'output'.*'hidden/w'"),
        (lambda: any_prune({"b": np.ones(3)}, 0.5), "leaves nothing to prune.*2 or more axes"),
        (lambda: any_prune({"w": np.full((2, 2), np.nan)}, 0.5), "params at 'w' have NaN"),
        (lambda: jax.jit(lambda w: any_prune(w, 0.5))(jnp.ones((2, 2))), "params are traced"),
    ],
)
def test_refusals(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()

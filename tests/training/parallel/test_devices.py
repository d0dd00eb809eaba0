"""Which devices a training runs on."""

from typing import Any, cast

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.training.parallel.devices import everywhere, fetched, on_each, place, shared_out

Devices = ps.replay.Devices


@pytest.mark.parametrize(
    ("given", "data", "tensor"), [(1, 1, 1), ("4", 4, 1), ("4x2", 4, 2), (" 2x1 ", 2, 1)]
)
def test_a_number_or_a_string_says_how_many(given: Any, data: int, tensor: int) -> None:
    devices = Devices.parse(given)
    assert devices == Devices(data=data, tensor=tensor) == Devices.parse(devices)
    assert devices.count == data * tensor
    assert str(devices) == f"{data}x{tensor}"
    assert Devices.parse(str(devices)) == devices


@pytest.mark.parametrize("given", ["", "x", "2x", "0", "0x2", "-1", "1.5", "2x2x2", True, 10**9])
def test_other_numbers_and_strings_are_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"devices is .*; allowed is a number of devices"):
        Devices.parse(given)


def test_fields_are_checked() -> None:
    with pytest.raises(ValueError, match="data is 0"):
        Devices(data=0)
    with pytest.raises(ValueError, match=r"tensor is 1\.5"):
        Devices(tensor=cast("Any", 1.5))


def test_more_devices_than_there_are_are_refused_before_work_starts() -> None:
    count = jax.device_count() + 1
    with pytest.raises(ValueError, match=rf"devices is {count}; allowed are up to {count - 1}"):
        ps.train(
            ps.TrainConfig(policy=ps.Policy.parse("fp32"), steps=1, shards=count * 4), devices=count
        )


def test_one_device_needs_no_mesh() -> None:
    if jax.device_count() == 1:
        assert Devices().mesh() is None


def test_arrays_keep_their_bits_where_they_are_placed() -> None:
    mesh = jax.sharding.Mesh(
        np.array(jax.devices()[:1]).reshape(1, 1), ("precsim_shards", "precsim_columns")
    )
    tree: dict[str, Any] = {
        "x": np.array([-0.0, np.nan, 1e-45], np.float32),
        "key": jax.random.key(3),
    }
    there = place(tree, everywhere(mesh))
    assert np.asarray(there["x"]).tobytes() == tree["x"].tobytes()
    assert jax.random.key_data(there["key"]).tolist() == jax.random.key_data(tree["key"]).tolist()
    assert fetched(there)["x"] is there["x"]
    assert place(there["x"], everywhere(mesh)) is there["x"]
    assert place(np.ones(4), shared_out(mesh)).tolist() == [1, 1, 1, 1]
    assert on_each(mesh, lambda x: x + 1)(np.float32(1)) == 2
    assert on_each(None, lambda x: x + 1)(np.float32(1)) == 2

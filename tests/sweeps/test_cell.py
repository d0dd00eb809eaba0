"""A cell's text and key: the same for the same run, another for any other."""

from dataclasses import replace

import pytest

from precsim.sweeps.cell import Cell, versions
from precsim.training.config import TrainConfig
from precsim.training.control.schedule import first_policy
from precsim.transform.policy import Policy

BASE = TrainConfig(
    policy=Policy.parse("bf16_mixed"), model="cnn", steps=7, learning_rate=0.3, seed=5
)
FACTS = versions()


@pytest.mark.parametrize(
    "policy",
    [
        Policy.parse("fp8_current"),
        Policy.parse("bf16;hidden:fp16"),
        replace(Policy.parse("bf16"), name="mine"),
        first_policy("bf16@0,fp32@5"),
        first_policy("cyclic[40]:q3.{4..8}"),
    ],
)
def test_text_reads_back_with_its_name(policy: Policy) -> None:
    cell = Cell(replace(BASE, policy=policy))
    again = Cell.parse(cell.text)
    assert (again, again.config.policy.name) == (cell, policy.name)
    assert again.key(FACTS) == cell.key(FACTS)


def test_key_changes_with_each_setting_and_version_and_not_with_a_label() -> None:
    cell = Cell(BASE)
    others = [
        Cell(replace(BASE, seed=6)),
        Cell(replace(BASE, steps=8)),
        Cell(replace(BASE, policy=Policy.parse("fp16"))),
        Cell(replace(BASE, policy=first_policy("bf16_mixed@0,fp32@5"))),
    ]
    assert len({each.key(FACTS) for each in (cell, *others)}) == 5
    assert cell.key({**FACTS, "jax": "0"}) != cell.key(FACTS)
    label = replace(BASE, policy=replace(BASE.policy, name="mine"))
    assert Cell(label).key(FACTS) == cell.key(FACTS)


def test_program_group_and_block_leave_out_what_they_are_shared_over() -> None:
    cell, seed = Cell(BASE), Cell(replace(BASE, seed=6))
    policy = Cell(replace(BASE, policy=Policy.parse("fp16")))
    assert cell.program == seed.program != policy.program
    assert cell.group == policy.group != seed.group
    assert cell.block == policy.block == seed.block
    assert cell.reference().is_reference
    assert not cell.is_reference
    assert not Cell(replace(BASE, policy=first_policy("fp32@0,bf16@5"))).is_reference


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"policy": 3, "name": ""}', "[" * 9999])
def test_text_that_is_no_cell_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^cell is "):
        Cell.parse(text)

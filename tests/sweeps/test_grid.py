"""The grid of a sweep: products and pairs, and one line for each thing that is wrong."""

from pathlib import Path

import pytest

from precsim.cli.policies import read_policy, read_schedule
from precsim.sweeps.grid import MOST_BYTES, MOST_CELLS, Grid, read_grid

GRID = """
policies = ["bf16", "fp16"]
models = ["mlp", "linear"]
seeds = "3-5"

[settings]
learning_rate = [0.1, 0.2]
batch_size = 8

[[paired]]
steps = 10
optimizer = "sgd"
[[paired]]
steps = 20
optimizer = "momentum"
"""


def grid(tmp_path: Path, text: str) -> Grid:
    path = tmp_path / "grid.toml"
    path.write_text(text, "utf-8")
    return read_grid(path, read_policy, read_schedule)


def test_cells_are_the_product_of_all_lists_and_of_the_paired_tables(tmp_path: Path) -> None:
    found = grid(tmp_path, GRID)
    configs = [cell.config for cell in found.cells]
    assert len(configs) == 3 * 2 * 3 * 2 * 2
    assert [c.policy.name for c in configs[:4]] == ["fp32", "bf16", "fp16", "fp32"]
    assert {c.seed for c in configs} == {3, 4, 5}
    assert {(c.steps, c.optimizer) for c in configs} == {(10, "sgd"), (20, "momentum")}
    assert {(c.model, c.learning_rate) for c in configs} == {
        (model, rate) for model in ("mlp", "linear") for rate in (0.1, 0.2)
    }
    assert {c.batch_size for c in configs} == {8}
    assert len({cell.key({}) for cell in found.cells}) == len(configs)
    assert found.text == GRID


def test_schedules_and_files_of_policies_are_read_as_by_train(tmp_path: Path) -> None:
    policy = tmp_path / "mine.toml"
    policy.write_text('policy = "bf16"\nname = "mine"\n', "utf-8")
    text = (
        f'policies = ["{policy.as_posix()}"]\nschedules = ["bf16@0,fp32@5"]\n[settings]\nsteps = 9'
    )
    names = [cell.config.policy.name for cell in grid(tmp_path, text).cells]
    assert names == ["fp32", "mine", "bf16@0,fp32@5"]


def test_reference_is_there_once(tmp_path: Path) -> None:
    found = grid(tmp_path, 'policies = ["bf16", "fp32"]').cells
    assert [cell.is_reference for cell in found] == [True, False]


WRONG = (
    ("", "neither policies nor schedules"),
    ("policies = [", "is no TOML file"),
    ('policies = "bf16"', "policies is 'bf16'; allowed is a list of texts"),
    ('policy = ["bf16"]', "unknown key 'policy'"),
    ('policies = ["bf61"]', "bf61"),
    ("policies = []", "policies is []; allowed is a list of texts, not empty"),
    ('policies = ["bf16", 3, "fp16"]', "one of policies is 3; allowed are texts"),
    ('schedules = ["x"]', "one of schedules is 'x'; allowed is POLICY@STEP,"),
    (
        'policies = ["bf16"]\nseeds = []',
        "seeds is []; allowed is a list of integers, or '0-9', not e",
    ),
    (
        'policies = ["bf16"]\nseeds = [1, "2", 3]',
        "one of seeds is '2'; allowed are integers from 0",
    ),
    ('policies = ["bf16"]\nseeds = "3-1"', "ascending, from 0 to 4294967295"),
    (
        'policies = ["bf16"]\nseeds = "0-99999999999"',
        f"allowed are up to {MOST_CELLS}, ascending, fr",
    ),
    ('policies = ["fp16", "fp16"]', "each policy may be given once"),
    ('policies = ["bf16"]\nseeds = 3', "seeds is 3; allowed is a list of integers, or '0-9'"),
    ('policies = ["bf16"]\nseeds = "9-0"', "seeds is '9-0'"),
    ('policies = ["bf16"]\nseeds = [-1]', "seeds is -1"),
    ('policies = ["bf16"]\nseeds = [1, 1]', "each seed may be given once"),
    ('policies = ["bf16"]\n[settings]\nstep = 3', "did you mean 'steps'?"),
    ('policies = ["bf16"]\n[settings]\nseed = 3', "write seeds, above all tables"),
    ('policies = ["bf16"]\n[settings]\nsteps = 0', "steps is 0; allowed are integers from 1 on"),
    ('policies = ["bf16"]\n[settings]\nsteps = []', "settings.steps is []"),
    ('policies = ["bf16"]\n[settings]\nsteps = [5, 5]', "two cells are the same"),
    ('policies = ["bf16"]\n[settings]\nmodel = "mpl"', "did you mean 'mlp'?"),
    ('policies = ["bf16"]\nmodels = ["mlp"]\n[settings]\nmodel = "cnn"', "in models and in settin"),
    ('policies = ["bf16"]\nmodels = ["mlp"]\n[[paired]]\nmodel = "cnn"', "in models and in paired"),
    ('policies = ["bf16"]\n[[paired]]\nsteps = [1, 2]', "paired table 1 has a list for steps"),
    ('policies = ["bf16"]\n[paired]\nsteps = 1', "allowed are tables, [[paired]]"),
    ('policies = ["bf16"]\nsettings = 3', "settings is 3; allowed is a table"),
    ('schedules = ["bf16@0,fp32@500"]\n[settings]\nsteps = 9', "whose last phase begins at step"),
    (f'policies = ["bf16"]\nseeds = "0-{MOST_CELLS}"', f"allowed are up to {MOST_CELLS}"),
    (f'policies = ["bf16"]\nseeds = "1-{MOST_CELLS}"', f"cells; allowed are up to {MOST_CELLS}"),
    ('policies = ["bf16"]\nx = ' + "[" * 5000 + "]" * 5000, "is no TOML file"),
)


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_wrong_is_one_line_with_the_name_of_the_file(
    text: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"grid\.toml") as caught:
        grid(tmp_path, text)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 600
    assert "--" not in str(caught.value)  # no option that the file does not have


def test_large_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"allowed are up to {MOST_BYTES}"):
        grid(tmp_path, "#" * (MOST_BYTES + 1))

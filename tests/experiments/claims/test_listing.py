"""Every claim: its numbers are as expected, its verdict needs them, and the page says the same."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import precsim as ps
from docs.extensions.generated_tables import NOT_RECORDED, fill
from docs.extensions.snippets import DOCS
from experiments.claims import a_formats, e_cost, trained
from experiments.claims.listing import SECTIONS, chosen, claims
from experiments.claims.report import as_dict
from experiments.claims.row import KINDS, NOT_REPRODUCED, Claim, settle
from experiments.claims.training import Run

CLAIMS = {claim.number: claim for claim in claims()}
EXACT = [claim for claim in claims() if claim.kind == "exact"]
OTHERS = [claim for claim in claims() if claim.kind != "exact"]
RECORD = Path(e_cost.__file__).with_name("recorded.json")


def recorded() -> dict[int, dict[str, Any]]:
    """Return the rows of the page by number."""
    runs = json.loads(RECORD.read_text(encoding="utf-8"))
    rows = [claim for run in runs for claim in run["claims"]]
    return {row["row"]: row for row in sorted(rows, key=lambda row: int(row["row"]))}


def by_number(claim: Claim) -> str:
    """Return the name of a test's case."""
    return str(claim.number)


def test_72_rows_and_those_on_which_articles_contradict_each_other() -> None:
    assert list(CLAIMS) == list(range(1, 77))
    assert {claim.kind for claim in claims()} <= KINDS.keys()
    texts = [text for claim in claims() for text in (claim.says, claim.truth)]
    assert [text for text in texts if not text.endswith((".", ")."))] == []
    assert [section.title[0] for section in SECTIONS] == list("ABCDEF")


@pytest.mark.parametrize("claim", EXACT, ids=by_number)
def test_exact_row_is_settled_as_the_page_says(claim: Claim) -> None:
    outcome = settle(claim)
    assert outcome.mismatches == []
    assert outcome.verdict == claim.verdict
    assert outcome.checks
    ours, theirs = as_dict(outcome), recorded()[claim.number]
    written = [(n["name"], n["written"]) for n in ours["numbers"]]
    assert written == [(n["name"], n["written"]) for n in theirs["numbers"]]


@pytest.mark.slow
@pytest.mark.parametrize("claim", OTHERS, ids=by_number)
def test_measured_row_is_settled(claim: Claim) -> None:
    outcome = settle(claim)
    assert outcome.mismatches == []
    assert outcome.verdict == claim.verdict
    assert outcome.checks


def test_page_has_the_texts_of_the_rows_and_numbers_that_match() -> None:
    rows = recorded()
    assert list(rows) == list(CLAIMS)
    for number, claim in CLAIMS.items():
        row = rows[number]
        said = (row["says"], row["truth"], row["verdict"], row["kind"], row["section"])
        assert said == (claim.says, claim.truth, claim.verdict, claim.kind, claim.section)
        assert row["numbers"]
        assert all(n["matched"] for n in row["numbers"])
    page = fill("% table: claims", DOCS)
    assert all(f"| `{claim.command}` |" in page for claim in claims())


def test_page_says_which_rows_have_no_recorded_number() -> None:
    without = [number for number, row in recorded().items() if not row["numbers"]]
    lines = fill("% table: claims", DOCS).splitlines()
    found = [int(line.split("|")[1]) for line in lines if NOT_RECORDED in line]
    assert found == without
    ran = " ".join(line for line in lines if line.startswith("Recorded with")).split(": rows ")[1:]
    assert not any(re.search(rf"\b{number}\b", rows) for rows in ran for number in without)


def test_the_training_of_the_page_takes_hundreds_of_millions_of_operations() -> None:
    assert CLAIMS[66].verdict == "depends"
    first = recorded()[66]["numbers"][0]
    assert (first["name"].split(",")[0], first["computed"]) == ("64-64-10", 816_675_840)


def test_signed_errors_of_a_sum_add_up_and_those_of_a_product_do_not() -> None:
    numbers = {n["name"]: n["computed"] for n in recorded()[18]["numbers"]}
    total, signed, magnitudes, steps, product, *_ = numbers.values()
    assert total == signed
    assert magnitudes > abs(signed)
    assert abs(product) > 1000 * abs(steps)


def test_verdicts_of_claims_with_parts_and_of_one_network() -> None:
    assert CLAIMS[33].verdict == "not seen here"
    assert {CLAIMS[n].verdict for n in (18, 32, 58, 61, 69, 70)} == {"depends"}


def test_ranges_of_times_and_seeds_can_fail() -> None:
    slower = recorded()[67]["numbers"][-1]
    assert slower["name"].startswith("here, NumPy")
    assert slower["expected"][0] == 1
    formats = recorded()[73]["numbers"][1]
    assert formats["name"].startswith("largest difference by a format")
    assert float(formats["expected"][1]) < 2


@pytest.mark.parametrize("number", [5, 70])
def test_sample_of_measured_rows(number: int) -> None:
    assert settle(CLAIMS[number]).verdict == CLAIMS[number].verdict


def test_a_wrong_rounding_settles_no_exact_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def truncated(x: float, spec: str) -> float:
        return float(ps.round_to(np.float64(x), f"{spec.partition(':')[0]}:rtz"))

    monkeypatch.setattr(a_formats, "rounded", truncated)
    assert {settle(CLAIMS[n]).verdict for n in (1, 2, 10, 13)} == {NOT_REPRODUCED}


def test_trainings_that_are_all_the_same_settle_no_measured_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ones = np.ones(2)
    run = Run(90 * ones, ones, 91 * ones, ones, {"w": np.ones((2, 3))})
    monkeypatch.setattr(trained, "digits", lambda *_, **__: run)
    assert settle(CLAIMS[47]).verdict == NOT_REPRODUCED
    assert settle(CLAIMS[39]).verdict == NOT_REPRODUCED


def test_another_record_of_a_gpu_settles_no_gpu_row(monkeypatch: pytest.MonkeyPatch) -> None:
    same = {name: {"ms": 1.0, "J": 1.0} for name in ("float32", "tf32", "bf16", "fp16")}
    times = dict.fromkeys(e_cost.ON_GPU["times"], same)
    monkeypatch.setitem(e_cost.ON_GPU, "times", times)
    assert {settle(CLAIMS[n]).verdict for n in (68, 70)} == {NOT_REPRODUCED}


def test_rows_are_chosen_once_and_in_the_order_that_is_given() -> None:
    assert [claim.number for claim in chosen(["6", "2", "6"])] == [6, 2]
    assert chosen([]) == claims()
    with pytest.raises(ValueError, match="1 to 76, separated by spaces"):
        chosen(["77"])

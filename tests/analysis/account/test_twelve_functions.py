"""Twelve plain functions: shares sum to the error, and the first sentence names what loses most."""

import pytest

import precsim as ps
from tests.analysis.account.closing import open_accounts
from tests.analysis.twelve_functions import FUNCTIONS

FORMATS = ("fp16", "bf16", "float(e=8,p=4)")


def _report(name: str, policy: str) -> ps.Report:
    fun, args = FUNCTIONS[name]
    return ps.analyze(fun, *args, policy=policy)


@pytest.mark.long
@pytest.mark.parametrize("name", ["quadratic", "one_pass_variance"])
def test_the_cancellation_is_named(name: str) -> None:
    report = _report(name, "fp16")
    assert open_accounts({name: report}) == []
    (sentence,) = report.top(1)
    assert sentence.endswith(": cancellation")
    assert ("sqrt" if name == "quadratic" else "jnp.mean(x) ** 2") in sentence


@pytest.mark.slow
@pytest.mark.parametrize("policy", FORMATS)
def test_shares_of_every_function_sum_to_its_error(policy: str) -> None:
    found = {name: _report(name, policy) for name in FUNCTIONS}
    assert open_accounts(found) == []
    unclosed = {name: report.obstacles for name, report in found.items() if report.obstacles}
    assert set(unclosed) == (set() if policy == "fp16" else {"lu"})
    assert all("the shares leave" in text for texts in unclosed.values() for text in texts)
    for name in ("quadratic", "one_pass_variance"):
        assert found[name].top(1)[0].endswith(": cancellation")

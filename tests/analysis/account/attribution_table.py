"""How well the shares of a transformer's rounding errors sum to its change, as a table.

``python -m tests.analysis.account.attribution_table`` prints the one of
docs/explanation/account.md. It takes about 15 minutes on a core.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from unittest import mock

import jax

from precsim.analysis.account.account import AUTO, NODES, Analysis
from precsim.analysis.account.report import Report, report_of
from precsim.transform.emulate import key_of, trace
from precsim.transform.operation import Context
from precsim.transform.policy import Policy
from tests.analysis.account import transformer

POLICIES = {
    "bf16": "bf16",
    "11 bits": "float(e=8,p=11)",
    "products 4 bits, the rest bf16": "c=bf16,o=float(e=8,p=4)",
    "4 bits": "float(e=8,p=4)",
}
"""Bits count the leading one."""


class Experiment(NamedTuple):
    """A function of weights, moments, words and next words, and the scalar of its result."""

    name: str
    layers: int
    fun: Callable[..., Any]
    of: Callable[[Any], Any]


def _forward(p: Any, m: Any, v: Any, x: Any, y: Any) -> Any:
    return transformer.log_probabilities(p, x), y


def _step(p: Any, m: Any, v: Any, x: Any, y: Any) -> Any:
    return transformer.adamw(p, m, v, x, y, 301.0)[0], x, y


EXPERIMENTS = (
    Experiment("loss, 2 layers", 2, _forward, lambda result: transformer.surprise(*result)),
    Experiment("AdamW step, 2 layers", 2, _step, lambda result: transformer.loss(*result)),
    Experiment("loss, 6 layers", 6, _forward, lambda result: transformer.surprise(*result)),
)


def analysis_of(experiment: Experiment, policy: str, args: Sequence[Any]) -> Analysis:
    """Return the analysis of an experiment, to be run for several seeds."""
    context = Context(policy=Policy.parse(policy), backend="auto", strict=True, key=key_of(0))
    traced = trace(experiment.fun, args, {}, 0)
    return Analysis(traced, context, experiment.of, "fp64", 1, False, False)


def reports(analysis: Analysis, args: Sequence[Any]) -> dict[int | str, Report]:
    """Return reports of the first order (0), at the midpoint (1), by Simpson (3), and AUTO."""
    found: dict[int | str, Report] = {}
    with mock.patch.dict(NODES, {0: ((0.0, 1.0),)}):
        for nodes in (0, 1, 3, AUTO):
            account = replace(analysis, nodes=nodes).run(jax.tree.leaves(args))
            policy = str(analysis.context.policy)
            found[nodes] = report_of(account, policy=policy, reference="fp64", of="")
    return found


def rows(experiments: Sequence[Experiment], seeds: Sequence[int]) -> Iterator[str]:
    """Yield a row for each experiment and policy, of its least and largest ratios over seeds.

    The last line says how many of all accounts close with "auto".
    """
    every: list[Report] = []
    for experiment in experiments:
        cases = [transformer.trained(seed, experiment.layers) for seed in seeds]
        for name, policy in POLICIES.items():
            analysis = analysis_of(experiment, policy, cases[0])
            found = [reports(analysis, args) for args in cases]
            every += [r[AUTO] for r in found]
            cells = [_range([r[1].gross / abs(r[1].change) for r in found], ".1f")]
            for nodes in (0, 1, 3):
                sums = [1 - r[nodes].remainder / r[nodes].change for r in found]
                cells.append(_range(sums, ".4f"))
            cells.append(f"{max(abs(r[1].remainder) / r[1].gross for r in found):.2%}")
            mild = [r for r in found if r[1].gross < 10 * abs(r[1].change)]
            for nodes in (1, 3):
                left = [abs(r[nodes].remainder / r[nodes].change) for r in mild]
                cells.append(f"{max(left, default=0):.2%}")
            count = sum(row.share != 0 for row in found[0][1].rows)
            yield f"| {experiment.name}, {count} operations | {name} | {' | '.join(cells)} |"
    of_gross = [abs(r.remainder) / r.gross for r in every]
    of_change = [abs(r.remainder / r.change) for r in every if r.gross < 10 * abs(r.change)]
    yield (
        f"\nauto: {sum(r.nodes == 3 for r in every)} of {len(every)} by Simpson's rule; at most 1 % "
        f"of the gross in {sum(x <= 0.01 for x in of_gross)} of {len(every)} ({max(of_gross):.2%}), "
        f"of a change above a tenth of it in {sum(x <= 0.01 for x in of_change)} of {len(of_change)} "
        f"({max(of_change, default=0):.2%})"
    )


def _range(numbers: Sequence[float], form: str) -> str:
    return f"{min(numbers):{form}} to {max(numbers):{form}}"


HEADER = (
    "| change of | format | gross / change | first order | midpoint | Simpson "
    "| remainder / gross, midpoint | remainder / change*, midpoint | the same, Simpson |\n"
    "|---|---|---|---|---|---|---|---|---|"
)

if __name__ == "__main__":
    print(HEADER)  # noqa: T201
    for line in rows(EXPERIMENTS, range(5)):
        print(line, flush=True)  # noqa: T201

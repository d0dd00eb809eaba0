"""`assign_formats`: the cheapest format of each layer under a bound on the loss gap, trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from precsim.analysis.account.analyze import analyzer
from precsim.analysis.assignment.cheapest import Option, cheapest
from precsim.analysis.assignment.places import Work, place_of, work_by_place
from precsim.analysis.comparison import final_loss
from precsim.analysis.tables import html_table, json_text, text_table
from precsim.formats.arguments import integer, shown
from precsim.formats.reals import real
from precsim.training.config import TrainConfig
from precsim.training.control.schedule import policy_text
from precsim.training.data.batches import batches_of
from precsim.training.data.own import as_data
from precsim.training.gradients import LOSS
from precsim.training.loop import train_on
from precsim.training.losses import loss_named
from precsim.training.prepared import load_data
from precsim.training.recipes.leaves import map_named
from precsim.training.result import TrainResult
from precsim.training.setup import plain_network, setup_of
from precsim.transform.policy import Policy, Rule


class AssignedPlace(NamedTuple):
    """The format of a place.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.AssignedPlace("hidden", "bf16_mixed", 0.001, 16.0, 1000).format
    'bf16_mixed'
    """

    place: str
    """The first parts of its scopes."""
    format: str
    """The candidate that it has."""
    predicted_gap: float
    """Mean magnitude of its share in the change of the loss."""
    bits: float
    """Mean bits of its operations."""
    operations: int
    """Of a step, forward and backward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The cheapest formats under a bound, as `assign_formats` returns them.

    Parameters
    ----------
    policy : Policy
        The config's, with a rule for each place.
    places : tuple of AssignedPlace
        In the order of the program.
    predicted_gap : float
        Sum of the predicted gaps of the places.
    measured_gap : float
        Final training loss of the run under `policy` less that of the float32 run.
    bits : float
        Mean bits of an operation of a step, that of the loss left out.
    result, reference : TrainResult
        The run under `policy`, and the float32 run.

    Examples
    --------
    See `assign_formats`.

    >>> import precsim as ps
    >>> ps.Assignment.__slots__[:2]
    ('policy', 'places')
    """

    policy: Policy
    places: tuple[AssignedPlace, ...]
    predicted_gap: float
    measured_gap: float
    bits: float
    result: TrainResult
    reference: TrainResult

    def _summary(self) -> str:
        one, other = self.result, self.reference
        return (
            f"{self.bits:.2f} bits per operation; loss gap: predicted {self.predicted_gap:.2g}, "
            f"measured {self.measured_gap:.2g}; {one.metric}: {one.test_score:.4g}, in float32 "
            f"{other.test_score:.4g}"
        )

    def __str__(self) -> str:
        """Return a summary and a table of the places."""
        return f"{self._summary()}\n\n{text_table(AssignedPlace._fields, self.places)}"

    def _repr_html_(self) -> str:
        """Return both for a notebook."""
        return html_table(self._summary(), AssignedPlace._fields, self.places)

    def to_json(self) -> str:
        """Return policy, places, gaps, bits and scores as JSON."""
        return json_text(
            {
                "policy": str(self.policy),
                "places": [place._asdict() for place in self.places],
                "predicted_gap": self.predicted_gap,
                "measured_gap": self.measured_gap,
                "bits": self.bits,
                "score": self.result.test_score,
                "reference_score": self.reference.test_score,
            }
        )


def assign_formats(
    config: TrainConfig,
    candidates: Sequence[str | Policy],
    *,
    gap: float | None = None,
    bits: float | None = None,
    probes: int = 3,
    depth: int = 1,
    model: Any = None,
    data: Any = None,
    test: Any = None,
    loss: Any = None,
    metric: Any = None,
    optimizer: Any = None,
) -> Assignment:
    """Choose a format for each place of a model, the cheapest under a bound, and train with it.

    Parameters
    ----------
    config : TrainConfig
        The run. Its policy says how weights are stored and updated, and computes what stands in no
        scope.
    candidates : sequence of str or Policy
        Policies among which each place has one: products, elementwise operations, reductions.
    gap : float, optional
        Bound on the predicted loss gap. The bits are as few as they can be.
    bits : float, optional
        Bound on the mean bits of an operation. Without `gap` the predicted gap is as small as it
        can be.
    probes : int
        At how many steps along the float32 run the loss is analysed, start and end among them.
    depth : int
        How many parts of a scope make a place.
    model, data, test, loss, metric, optimizer : optional
        As of `train`.

    Returns
    -------
    Assignment
        ``print(assignment)`` shows a table: place, format, predicted gap, bits.

    Raises
    ------
    ValueError
        If no bound is given, no choice keeps them (the message has the nearest ones), the model has
        no named scope, or there are not at least two candidates.
    NotImplementedError
        If the model has an operation that `emulate` cannot round.

    Notes
    -----
    The predicted gap of a place in a format is of first order: the magnitude of the share that the
    place has in the change of the loss, by `analyze`, if the whole model is in that format, a mean
    over the probes. It sees one forward pass, not what errors of gradients do over many steps, so
    `measured_gap`, of the run that is made, may be larger or smaller.

    The bits of an operation are those of the operands of a product, or of the result of another
    operation, in the formats of the candidate; see `cost` for what counts as one. All choices are
    compared; beyond 20,000 that none beats in both respects, neighbours among them are left out.

    Cost: a compilation of `analyze` per candidate, and two trainings.

    Source: NVIDIA, Model-Optimizer, documentation, "AutoQuantize", for the search by effective
    bits.

    Examples
    --------
    Of two layers one may have 16 bits: the one whose errors the loss feels.

    >>> import jax, numpy as np, precsim as ps
    >>> def apply(weights, x):
    ...     with jax.named_scope("first"):
    ...         x = weights["first"] * x
    ...     with jax.named_scope("second"):
    ...         return x + weights["second"] * x
    >>> model = {"first": np.full(1, 1.3), "second": np.full(1, 1e-3)}, apply
    >>> x = np.float32([[1.1], [2.3], [-1.7], [0.6]])
    >>> config = ps.TrainConfig(policy="fp32", steps=2, batch_size=4, learning_rate=0.01)
    >>> options = {"bits": 14, "probes": 1, "model": model, "data": (x, 2 * x)}
    >>> found = ps.assign_formats(config, ("e5m2", "bf16"), **options)
    >>> [(row.place, row.format) for row in found.places]
    [('first', 'bf16'), ('second', 'e5m2')]
    """
    if gap is None and bits is None:
        raise ValueError("gap and bits are None; allowed is a bound on one of them, or on both")
    most_lost, most_bits = _bound(gap, "gap"), _bound(bits, "bits")
    policies = [Policy.parse(candidate) for candidate in candidates]
    if len(policies) < 2:
        raise ValueError(f"candidates are {shown(candidates)}; allowed are two policies or more")
    probes, depth = integer(probes, "probes", 1), integer(depth, "depth", 1)
    source = load_data(config) if data is None else as_data(data, test=test)
    own = {"model": model, "loss": loss, "metric": metric, "optimizer": optimizer}
    setup = setup_of(config, source.problem, **own)
    own |= {"model": plain_network(setup, source.problem)}
    plain = replace(config, policy=Policy.parse("fp32"), snapshots=max(probes - 1, 1))
    reference = train_on(source, plain, **own)

    problem = _Problem(setup, own["model"], config, source, depth)
    steps = sorted(reference.snapshots)[:probes]
    losses = [problem.losses(policy, reference, steps) for policy in policies]
    works = [problem.work(policy) for policy in policies]
    places = [place for place in works[0] if place not in ("", LOSS)]
    if not places:
        raise ValueError(
            "the model has no named scopes; allowed are models with some, such as "
            "jax.named_scope makes"
        )
    options = {
        place: [
            Option(work[place].bits, lost.get(place, 0.0))
            for work, lost in zip(works, losses, strict=True)
        ]
        for place in places
    }
    total = sum(works[0][place].operations for place in places)
    choice = cheapest(options, loss=most_lost, cost=most_bits * total)
    chosen = dict(zip(places, choice.options, strict=True))
    policy = with_places(config.policy, {place: policies[n] for place, n in chosen.items()})
    result = train_on(source, replace(config, policy=policy), **own)
    return Assignment(
        policy=policy,
        places=tuple(
            AssignedPlace(
                place,
                policy_text(policies[n]),
                options[place][n].loss,
                options[place][n].cost / max(works[n][place].operations, 1),
                works[n][place].operations,
            )
            for place, n in chosen.items()
        ),
        predicted_gap=choice.loss,
        measured_gap=final_loss(result) - final_loss(reference),
        bits=choice.cost / max(total, 1),
        result=result,
        reference=reference,
    )


def _placed(named: dict[str, np.ndarray], like: Any) -> Any:
    """Return weights by name in the tree that they come from."""
    return map_named(lambda name, _: named[name], like)


def _bound(given: Any, name: str) -> float:
    return float("inf") if given is None else float(real(given, name))


def with_places(base: Policy, places: dict[str, Policy]) -> Policy:
    """Return a policy with a rule for each place; those of more parts come first."""
    names = sorted(places, key=lambda name: (-name.count("/"), name))
    rules = tuple(Rule(name, replace(places[name], rules=())) for name in names)
    return replace(base, name="", rules=rules)


class _Problem:
    """The loss of a run, to be analysed at weights of its way."""

    def __init__(
        self, setup: Any, network: Any, config: TrainConfig, data: Any, depth: int
    ) -> None:
        import jax

        self.batch = batches_of(data, config)
        self.first = setup.initial(data.problem, self.batch(0)[0])
        self.depth, self.base = depth, config.policy
        compute = loss_named(setup.loss)
        state, key = self.first[1], jax.random.key(config.seed)

        def loss(params: Any, inputs: Any, targets: Any) -> Any:
            outputs, _ = network.apply(params, state, inputs, key, True)
            with jax.named_scope(LOSS):
                return compute(outputs, targets)

        self.loss = loss

    def _everywhere(self, policy: Policy) -> Policy:
        """Return a candidate for the whole model, but for the loss."""
        plain = Rule(LOSS, replace(Policy.parse("fp32"), name=""))
        return replace(policy, name="", rules=(plain,))

    def losses(self, policy: Policy, run: TrainResult, steps: Sequence[int]) -> dict[str, float]:
        """Return the magnitude of the share of each place, a mean over steps of a run."""
        find = analyzer(self.loss, policy=self._everywhere(policy))
        found: dict[str, float] = {}
        for step in steps:
            named = run.snapshots[step]
            weights = _placed(named, self.first[0])
            report = find(weights, *self.batch(min(step, run.config.steps - 1)))
            shares: dict[str, float] = {}
            for row in report.rows:
                place = place_of(row.scope, self.depth)
                shares[place] = shares.get(place, 0.0) + row.share
            for place, share in shares.items():
                lost = abs(share) if np.isfinite(share) else float("inf")
                found[place] = found.get(place, 0.0) + lost / len(steps)
        return found

    def work(self, policy: Policy) -> dict[str, Work]:
        """Return what each place does in a step under a candidate."""
        import jax

        gradient = jax.value_and_grad(self.loss)
        args = (self.first[0], *self.batch(0))
        return work_by_place(gradient, args, self._everywhere(policy), self.depth)

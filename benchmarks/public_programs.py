"""Public solvers, samplers and simulators that `benchmarks.models` tries, made small."""

from typing import Any

import jax.numpy as jnp

from benchmarks.models import KEY, Program, model, numbers


@model("linear solvers", "lineax")
def linear_solvers() -> Program:
    """Return solvers of `lineax`: CG, Cholesky, LU, QR and SVD."""
    import lineax

    solvers = (
        lineax.CG(1e-3, 1e-3, max_steps=8),
        lineax.Cholesky(),
        lineax.LU(),
        lineax.QR(),
        lineax.SVD(),
    )

    def fun(matrix: Any, right: Any) -> Any:
        definite = matrix @ matrix.T + 4 * jnp.eye(4)
        operator = lineax.MatrixLinearOperator(definite, lineax.positive_semidefinite_tag)
        return [lineax.linear_solve(operator, right, solver).value for solver in solvers]

    return fun, (numbers(4, 4), numbers(4))


@model("Newton's root finding", "optimistix")
def root_finding() -> Program:
    """Return `Newton's root finding` of `optimistix`."""
    import optimistix

    def fun(weights: Any, x: Any) -> Any:
        gap = lambda y, weights: y - jnp.tanh(weights @ y + x)
        newton = optimistix.Newton(1e-3, 1e-3)
        return optimistix.root_find(gap, newton, x, args=weights, max_steps=8).value

    return fun, (numbers(4, 4) / 4, numbers(4))


@model("stochastic differential equation", "diffrax")
def stochastic_equation() -> Program:
    """Return `stochastic differential equation` of `diffrax`."""
    import diffrax

    def fun(weights: Any, start: Any) -> Any:
        motion = diffrax.VirtualBrownianTree(0.0, 1.0, 1e-2, (3,), key=KEY)
        drift = diffrax.ODETerm(lambda t, y, args: jnp.tanh(weights @ y))
        noise = diffrax.ControlTerm(lambda t, y, args: 0.1 * jnp.eye(3) * y, motion)
        terms, times = diffrax.MultiTerm(drift, noise), diffrax.SaveAt(ts=jnp.linspace(0, 1, 4))
        solver = diffrax.EulerHeun()
        return diffrax.diffeqsolve(terms, solver, 0, 1, 0.125, start, saveat=times, max_steps=9).ys

    return fun, (numbers(3, 3), numbers(3))


@model("stiff differential equation", "diffrax")
def stiff_equation() -> Program:
    """Return `stiff differential equation` of `diffrax`, solved implicitly."""
    import diffrax

    def fun(rates: Any, start: Any) -> Any:
        decay = diffrax.ODETerm(lambda t, y, args: -jnp.exp(rates) * y + jnp.sin(t))
        steps = diffrax.PIDController(1e-1, 1e-1)
        solver, options = diffrax.Kvaerno3(), {"stepsize_controller": steps, "throw": False}
        return diffrax.diffeqsolve(decay, solver, 0, 1, 0.25, start, max_steps=16, **options).ys

    return fun, (numbers(3), numbers(3))


@model("Monte Carlo tree search", "mctx")
def tree_search() -> Program:
    """Return `Monte Carlo tree search` (Gumbel MuZero) of `mctx`."""
    import mctx

    def fun(weights: Any, x: Any) -> Any:
        value: Any = lambda state: jnp.sum(state, -1)

        def recurrent(weights: Any, key: Any, action: Any, state: Any) -> Any:
            state = jnp.tanh(state + 0.1 * action[:, None])
            discount, logits = jnp.full(state.shape[:1], 0.9), state @ weights
            return mctx.RecurrentFnOutput(
                reward=state[:, 0], discount=discount, prior_logits=logits, value=value(state)
            ), state

        root = mctx.RootFnOutput(prior_logits=x @ weights, value=value(x), embedding=x)
        found = mctx.gumbel_muzero_policy(weights, KEY, root, recurrent, num_simulations=4)
        return found.action_weights

    return fun, (numbers(4, 3), numbers(2, 4))


@model("Gaussian process (gpjax)", "gpjax")
def gaussian_process() -> Program:
    """Return `Gaussian process (gpjax)` of `gpjax`: marginal likelihood and prediction."""
    import gpjax
    from flax import nnx

    x = jnp.linspace(0, 1, 8)[:, None]
    data = gpjax.Dataset(X=x, y=jnp.sin(6 * x))
    mean, kernel = gpjax.mean_functions.Constant(), gpjax.kernels.Matern32()
    prior = gpjax.gps.Prior(mean_function=mean, kernel=kernel)
    graph, state = nnx.split(prior * gpjax.likelihoods.Gaussian(8))

    def fun(state: Any, x: Any) -> Any:
        posterior = nnx.merge(graph, state)
        likelihood = gpjax.objectives.conjugate_mll(posterior, data)
        return likelihood, posterior.predict(x, data).mean

    return fun, (state, x + 0.05)


@model("CMA-ES", "evosax")
def evolution() -> Program:
    """Return two generations of `CMA-ES` of `evosax`."""
    from evosax.algorithms import CMA_ES

    strategy = CMA_ES(population_size=6, solution=jnp.zeros(4))
    options = strategy.default_params

    def fun(start: Any, target: Any) -> Any:
        state = strategy.init(KEY, start, options)
        for _ in range(2):
            members, state = strategy.ask(KEY, state, options)
            fitness = jnp.sum((members - target) ** 2, -1)
            state, _ = strategy.tell(KEY, members, fitness, state, options)
        return state.mean, state.std

    return fun, (numbers(4), numbers(4))


@model("L-BFGS", "jaxopt")
def quasi_newton() -> Program:
    """Return `L-BFGS` of `jaxopt`, differentiated implicitly."""
    import jaxopt

    def fun(weights: Any, x: Any) -> Any:
        loss = lambda y, weights: jnp.sum((weights @ y - x) ** 2) + jnp.sum(y**4)
        return jaxopt.LBFGS(loss, maxiter=4).run(jnp.zeros(4), weights).params

    return fun, (numbers(6, 4), numbers(6))


@model("variational inference", "numpyro")
def variational_inference() -> Program:
    """Return one step of `variational inference` of `numpyro`."""
    import numpyro
    from numpyro import distributions
    from numpyro.infer import SVI, Trace_ELBO, autoguide

    def law(x: Any, y: Any) -> None:
        slope = numpyro.sample("slope", distributions.Normal(0, 1).expand([3]).to_event(1))
        scale = numpyro.sample("scale", distributions.Gamma(2.0, 3.0))
        numpyro.sample("y", distributions.StudentT(3.0, x @ slope, scale), obs=y)

    x, y = numbers(8, 3), numbers(8)
    guide, optimizer = autoguide.AutoMultivariateNormal(law), numpyro.optim.Adam(1e-2)
    inference = SVI(law, guide, optimizer, Trace_ELBO())
    state = inference.init(KEY, x, y)

    def fun(y: Any, x: Any) -> Any:
        after, loss = inference.update(state, x, y)
        return inference.get_params(after), loss

    return fun, (y, x)


@model("Sinkhorn transport", "ott-jax")
def transport() -> Program:
    """Return `Sinkhorn transport` of `ott-jax`."""
    from ott.geometry import pointcloud
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn

    def fun(x: Any, y: Any) -> Any:
        problem = linear_problem.LinearProblem(pointcloud.PointCloud(x, y, epsilon=0.1))
        solver = sinkhorn.Sinkhorn(min_iterations=5, max_iterations=20, inner_iterations=5)
        found = solver(problem)
        return found.reg_ot_cost, found.matrix

    return fun, (numbers(5, 2), numbers(4, 2) + 1)


@model("rigid motions", "jaxlie")
def rigid_motions() -> Program:
    """Return `rigid motions` of `jaxlie`."""
    import jaxlie

    def fun(tangent: Any, x: Any) -> Any:
        motion, turn = jaxlie.SE3.exp(tangent), jaxlie.SO3.from_rpy_radians(*x)
        return (motion @ jaxlie.SE3.from_rotation(turn)).log(), motion.apply(x), motion.adjoint()

    return fun, (numbers(6), numbers(3))


@model("Kuramoto-Sivashinsky equation", "exponax")
def spectral() -> Program:
    """Return `Kuramoto-Sivashinsky equation` of `exponax`: exponential steps of Fourier modes."""
    import exponax

    def fun(x: Any) -> Any:
        stepper = exponax.stepper.KuramotoSivashinsky(1, 20.0, 16, 0.1)
        return exponax.rollout(stepper, 3)(x)

    return fun, (numbers(1, 16),)


@model("molecular dynamics", "jax-md")
def molecules() -> Program:
    """Return two steps of `molecular dynamics` of `jax-md`: Lennard-Jones, Nose-Hoover chain."""
    from jax_md import energy, simulate, space

    distance, shift = space.periodic(4.0)
    potential = energy.lennard_jones_pair(distance, sigma=1.0)
    start, step = simulate.nvt_nose_hoover(potential, shift, 1e-3, 0.5)

    def fun(places: Any) -> Any:
        state = start(KEY, places)
        return step(step(state)).position

    grid = jnp.meshgrid(1.5 * jnp.arange(2), 1.3 * jnp.arange(3))
    return fun, (jnp.stack(grid, -1).reshape(6, 2) + numbers(6, 2) / 20,)


@model("neuron (Hodgkin-Huxley)", "jaxley")
def neuron() -> Program:
    """Return `neuron (Hodgkin-Huxley)` of `jaxley`: a cell of three branches."""
    import jaxley
    from jaxley.channels import HH

    cell = jaxley.Cell(jaxley.Branch(jaxley.Compartment(), 2), parents=[-1, 0, 0])
    cell.insert(HH())
    place, options = cell.branch(0).loc(0.0), {"i_delay": 0.1, "i_dur": 0.2, "i_amp": 0.3}
    place.record(verbose=False)
    place.stimulate(jaxley.step_current(**options, delta_t=0.025, t_max=0.5), verbose=False)
    cell.make_trainable("HH_gNa", verbose=False)
    return lambda weights: jaxley.integrate(cell, params=weights), (cell.get_parameters(),)


@model("quantum circuit", "pennylane")
def circuit() -> Program:
    """Return `quantum circuit` of `pennylane`, on two qubits."""
    import pennylane

    @pennylane.qnode(pennylane.device("default.qubit", wires=2), interface="jax")  # type: ignore[untyped-decorator]
    def fun(angles: Any, x: Any) -> Any:
        pennylane.RX(x[0], wires=0)
        pennylane.RY(angles[0], wires=1)
        pennylane.CNOT([0, 1])
        pennylane.Rot(*angles[1:], wires=0)
        return pennylane.expval(pennylane.PauliZ(0)), pennylane.probs(wires=[0, 1])

    return fun, (numbers(4), numbers(1))


@model("path signature", "signax")
def signature() -> Program:
    """Return `path signature` of `signax`."""
    import signax

    return lambda x: (signax.signature(x, 3), signax.logsignature(x, 3)), (numbers(6, 2),)


@model("forward Laplacian", "folx")
def laplacian() -> Program:
    """Return `forward Laplacian` of `folx`: of a small wave function."""
    import folx

    def fun(weights: Any, x: Any) -> Any:
        def wave(x: Any) -> Any:
            hidden = jnp.tanh(weights[0] @ x.reshape(-1))
            gaps = jnp.linalg.norm(x[:, None] - x[None] + 0.1, axis=-1)
            return jnp.sum(weights[1] @ hidden) + jnp.log(jnp.abs(jnp.linalg.det(jnp.exp(-gaps))))

        found = folx.forward_laplacian(wave, sparsity_threshold=0)(x)
        return found.x, found.laplacian

    return fun, ([numbers(5, 9) / 3, numbers(4, 5)], numbers(3, 3))


@model("quadratic program", "qpax")
def quadratic_program() -> Program:
    """Return `quadratic program` of `qpax`, solved by an interior point method."""
    import qpax

    def fun(weights: Any, x: Any) -> Any:
        matrix, ones = weights @ weights.T + jnp.eye(3), jnp.ones((1, 3))
        limits = ones, ones[0, :1], jnp.eye(3), ones[0]
        return qpax.solve_qp_primal(matrix, x, *limits, solver_tol=1e-3)

    return fun, (numbers(3, 3), numbers(3))


@model("Navier-Stokes equation", "jax-cfd")
def flow() -> Program:
    """Return a step of the `Navier-Stokes equation` of `jax-cfd`."""
    from jax_cfd import base

    grid = base.grids.Grid((8, 8), domain=((0, 6.28), (0, 6.28)))
    edges = base.boundaries.periodic_boundary_conditions(2)
    options: dict[str, Any] = {"density": 1.0, "viscosity": 0.1, "dt": 0.01, "grid": grid}
    step = base.equations.semi_implicit_navier_stokes(**options)

    def fun(u: Any, v: Any) -> Any:
        arrays = map(base.grids.GridArray, (u, v), grid.cell_faces, (grid, grid))
        return [x.data for x in step(tuple(base.grids.GridVariable(x, edges) for x in arrays))]

    return fun, (numbers(8, 8), numbers(8, 8) / 2)


@model("linear program", "mpax")
def linear_program() -> Program:
    """Return `linear program` of `mpax`, solved with sparse matrices by primal-dual steps."""
    import mpax

    def fun(costs: Any, right: Any) -> Any:
        limits = jnp.zeros(3), jnp.zeros(3), jnp.ones(3)
        problem = mpax.create_lp(costs, jnp.ones((1, 3)), right, jnp.eye(3), *limits)
        options = {"eps_abs": 1e-2, "eps_rel": 1e-2, "iteration_limit": 20, "verbose": False}
        return mpax.r2HPDHG(**options).optimize(problem).primal_solution

    return fun, (jnp.array([1.0, 2.0, 3.0]), jnp.ones(1))

"""The names that a run can have: of policies, models and data sets."""

from precsim.training.data.registry import TASKS
from precsim.training.models.registry import MODELS
from precsim.transform.presets import PRESETS


def list_policies() -> tuple[str, ...]:
    """Return the names of the policies that precsim knows, each of which `Policy.parse` reads.

    Returns
    -------
    tuple of str
        The names, in the order of the registry.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.list_policies()[:3]
    ('fp32', 'bf16', 'bf16_mixed')
    """
    return tuple(PRESETS)


def list_models() -> tuple[str, ...]:
    """Return the names of the models that `TrainConfig` knows.

    Returns
    -------
    tuple of str
        The names, in the order of the registry.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.list_models()[:3]
    ('mlp', 'cnn', 'transformer')
    """
    return tuple(MODELS)


def list_tasks() -> tuple[str, ...]:
    """Return the names of the data sets that `TrainConfig` knows.

    Returns
    -------
    tuple of str
        The names, in the order of the registry.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.list_tasks()[:3]
    ('digits', 'mnist5k', 'text')
    """
    return tuple(TASKS)

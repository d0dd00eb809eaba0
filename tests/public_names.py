"""The public names of precsim: those on top, and those of the themes."""

import inspect

import precsim


def public_objects() -> dict[str, object]:
    """Map each public name, as it follows ``precsim.``, to its object; each object once."""
    top = {name: getattr(precsim, name) for name in precsim.__all__}
    themes = {name: value for name, value in top.items() if inspect.ismodule(value)}
    found = {name: value for name, value in top.items() if name not in themes}
    for theme, module in themes.items():
        further = {n: v for n, v in vars(module).items() if n[0] != "_" and n not in top}
        found |= {f"{theme}.{name}": value for name, value in further.items()}
    return found


def last_parts() -> set[str]:
    """Return the public names without their themes."""
    return {name.rpartition(".")[2] for name in public_objects()}

"""Options that count: one that leaves nothing to be tried is refused."""

import argparse

MOST = 10**9


def check_counts(args: argparse.Namespace, **least: int) -> None:
    """Refuse the options by name that are below the least allowed, or above a billion."""
    for name, lowest in least.items():
        given = getattr(args, name)
        if not lowest <= given <= MOST:
            raise ValueError(f"--{name} is {given}; allowed are integers from {lowest} to {MOST}")

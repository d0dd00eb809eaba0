"""`precsim claims`: what articles say about low precision, settled by numbers."""

import argparse
from importlib import import_module
from types import ModuleType

from precsim.cli.cache import add_argument, with_cache
from precsim.cli.experiments_package import load_experiments


def _command() -> ModuleType:
    return import_module(f"{load_experiments().__name__}.claims.command")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    _command().add_arguments(parser)
    add_argument(parser)


@with_cache
def run(args: argparse.Namespace) -> int:
    """Settle the claims that are named, or all."""
    return int(_command().run(args))

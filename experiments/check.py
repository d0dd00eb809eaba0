"""What the figures are annotated with, and `Check`, with which they compare."""

from typing import Literal, TypeAlias

import numpy as np

import precsim as ps

Check = ps.figures.Check
Grade: TypeAlias = Literal["A", "B", "C"]
Kind: TypeAlias = Literal["exact", "digits", "relative", "absolute", "range"]
Results: TypeAlias = dict[str, np.ndarray]
Tables: TypeAlias = dict[str, dict[str, np.ndarray]]
"""Columns by name, of each published file by the end of its name."""

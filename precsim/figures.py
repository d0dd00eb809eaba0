"""Figures with published numbers: computed, compared number by number, drawn, recorded."""

from precsim.analysis.figures.check import Check as Check
from precsim.analysis.figures.run import Outcome as Outcome
from precsim.analysis.figures.run import run as run

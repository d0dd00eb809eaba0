"""The exact intermediate results of `precsim.rounding.wide`, under the name that arithmetic uses."""
# ruff: noqa: PLC0414

from precsim.rounding.wide import Packed as Packed
from precsim.rounding.wide import Wide as Wide
from precsim.rounding.wide import add as add
from precsim.rounding.wide import divide as divide
from precsim.rounding.wide import multiply as multiply
from precsim.rounding.wide import multiply_words as multiply_words
from precsim.rounding.wide import normalise as normalise
from precsim.rounding.wide import pack as pack
from precsim.rounding.wide import shift_right_jam as shift_right_jam
from precsim.rounding.wide import sqrt as sqrt
from precsim.rounding.wide import unpack as unpack

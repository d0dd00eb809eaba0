"""Products of operands with scales: elements, integer sums, and stretches of K."""

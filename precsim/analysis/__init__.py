"""What the errors mean: measures, bounds, range events, pictures."""

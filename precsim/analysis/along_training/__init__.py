"""What happens along a training: loss scales audited, drift from a float32 shadow."""

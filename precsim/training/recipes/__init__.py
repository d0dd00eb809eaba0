"""What mixed-precision training adds to a step: scaling, updates, optimizers, noise."""

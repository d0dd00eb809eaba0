"""The cheapest format for each layer under a bound: the choice, trained and shown."""

"""Matrix products, convolutions and sums of products in a stated order."""

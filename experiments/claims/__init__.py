"""What popular articles say about low precision, each row settled by numbers that are computed."""

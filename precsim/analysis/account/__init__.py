"""What each operation of a program contributes to the error of its result."""

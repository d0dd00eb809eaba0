"""What can be represented: formats, their names, their codes."""

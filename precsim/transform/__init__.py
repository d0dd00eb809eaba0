"""What looks into a JAX program: its inner programs, portability and tags."""

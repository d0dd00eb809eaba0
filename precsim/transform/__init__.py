"""What looks into a JAX program: portability and tags."""

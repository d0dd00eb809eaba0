"""How each primitive of JAX is computed under a policy, by kind."""

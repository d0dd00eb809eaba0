"""What a computation costs under a policy: bytes that are kept, operations that are done."""

"""Two dumps of tensors compared: read, aligned by name and shape, measured."""

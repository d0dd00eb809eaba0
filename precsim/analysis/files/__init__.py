"""Tensors in files that people have: .safetensors, .npz, .npy, and folders of them."""

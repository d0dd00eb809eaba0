"""One training on several devices, with the bits that it has on one."""

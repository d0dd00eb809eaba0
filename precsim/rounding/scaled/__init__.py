"""Block and affine formats: choosing scales, and rounding elements to codes."""

"""What decides the bits of a product: `MatmulSpec`, its grammar, and the machines."""

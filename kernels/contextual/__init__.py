"""Device kernels of contextual attention."""

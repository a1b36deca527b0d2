"""Device kernels of dual attention."""

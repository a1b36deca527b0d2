"""Device kernels of spatial attention."""

"""Device code, a folder per op; installed as ``lesionkit.kernels``."""

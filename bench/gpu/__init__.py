"""What ``python -m bench.gpu_suite`` measures on a GPU."""

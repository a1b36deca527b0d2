"""Run by test_triton_interpreted.py, in processes where Triton's interpreter is on."""

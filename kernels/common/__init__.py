"""What the device kernels share."""

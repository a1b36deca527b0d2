"""Device code of position-sensitive RoI pooling: one file per backend."""

"""Videos as small networks: opened, trained, decoded frame by frame, measured."""

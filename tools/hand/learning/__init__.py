"""Learning an articulated model from registered meshes or raw scans (`fieldstone hand learn`)."""

"""Cameras: intrinsics, poses, rays, paths."""

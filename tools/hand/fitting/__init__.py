"""Fitting articulated models to keypoints, pictures, scans and silhouettes."""

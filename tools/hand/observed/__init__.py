"""What `hand fit` reads: keypoint files, scans, depth images, capture folders, annotated data sets, motion capture."""

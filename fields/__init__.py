"""What is learned: coordinates to density, colour, signed distance, signal."""

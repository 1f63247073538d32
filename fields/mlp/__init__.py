"""Small bias-free perceptrons."""

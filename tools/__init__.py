"""What a person runs: training, rendering, evaluating, meshing."""

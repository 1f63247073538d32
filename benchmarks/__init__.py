"""What is fast and by how much: one command each, results as JSON in `results/`. See README.md beside this file."""

"""Optimisers and learning-rate schedules for fields."""

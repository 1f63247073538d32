"""From a field to a clean mesh file."""

"""A hand and a body of ours, made by code: anatomy in numbers, an implicit surface around it, a mesh, weights, shapes and correctives."""

"""Images as fields: opened, trained, rendered at any size, measured."""

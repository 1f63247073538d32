"""What a person does with hands and bodies: `fieldstone hand ...`, and the files that hands travel in."""

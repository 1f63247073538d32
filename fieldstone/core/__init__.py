"""What every folder stands on. Imports nothing else of Fieldstone."""

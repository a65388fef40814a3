"""params.yaml: which settings exist, what is valid, and which exclude each other."""

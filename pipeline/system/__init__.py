"""Errors, progress, text and the machine: what everything else may use."""

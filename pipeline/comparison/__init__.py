"""What the runs come to: read back, summed up, compared in pairs."""

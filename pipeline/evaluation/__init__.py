"""What a trained network is worth and what it costs."""

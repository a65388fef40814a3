"""What a trained network looks at: feature maps, heatmaps and attention weights."""

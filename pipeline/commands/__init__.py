"""What a person does with trained networks: ask them about other images, take them elsewhere."""

"""The networks, and the layers and attention modules they are made of."""

"""The sources of images: how each gets them, and how it reads them."""

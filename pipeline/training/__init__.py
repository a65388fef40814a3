"""The one recipe under which every architecture is trained."""

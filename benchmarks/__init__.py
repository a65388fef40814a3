"""What a run costs, measured side by side: ``make bench`` measures all of it."""

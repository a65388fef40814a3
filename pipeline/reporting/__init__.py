"""What a person reads at the end: tables, figures, the report and the terminal's summary."""

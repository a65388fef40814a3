"""What a person reads at the end: tables, the report as Markdown and page, the terminal."""

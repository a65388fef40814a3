"""Files and folders that appear complete or not at all, checksums, arrays, tables and records."""

"""Files and folders that appear whole or not at all, checksums, arrays, tables and records."""

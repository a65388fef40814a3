"""The stages of the graph: each reads its inputs, calls the rest of the package, writes outputs."""

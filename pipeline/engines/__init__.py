"""All that knows the insides of DVC or Snakemake."""

"""Where the jobs of a command run beyond its own process: in shards, or on the workers of a Dask cluster."""

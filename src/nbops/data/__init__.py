"""Floor 2: frames, digests, profiles, data checks, datasets. The only home of narwhals and duckdb."""

"""Floor 5: notebooks as pipeline steps. The only home of papermill, nbformat and nbclient."""

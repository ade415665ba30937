"""MLflow's tracking and registry interface (REST, versions 2.0 and 3.0) over an nbops workspace.

`routes` holds what can be asked; each module beside it answers for one resource and knows no HTTP. `handlers` mounts
them in a Jupyter server, `standalone` in a server of their own.
"""

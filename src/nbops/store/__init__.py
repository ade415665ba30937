"""Floor 1: the workspace. The only home of sqlalchemy, alembic and fsspec."""

"""Alembic's scripts: one file per step of the schema, never changed after a release."""

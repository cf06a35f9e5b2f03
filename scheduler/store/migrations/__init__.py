"""How the schema came to be what it is: an Alembic environment that needs no file outside the package."""

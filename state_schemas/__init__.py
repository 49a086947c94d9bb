"""Plain data types and their wire forms. This package imports no other package of the project."""

"""Makes ``suites.rows`` importable, as every package of tests has its conftest."""
